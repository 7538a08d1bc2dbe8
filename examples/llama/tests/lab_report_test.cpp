#include "comparison_charts.hpp"
#include "json.hpp"
#include "lab/report.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <string>
#include <vector>

using namespace llama;
using namespace llama::lab;

namespace {

struct CellText {
  std::string task = "kl";
  std::string variant = "";
  std::string preset = "KvFreeze";
  double resident = 0.2;
  int piece = 0;
  std::string status = "measured";
  std::vector<double> kl{0.1, 0.3};
  std::vector<int> right = {};
  std::string settings = "sinks=4";
  int threads = 2;
  double resident_mean = -1.0;  // as `resident` where not given
  int wanted = 0;
};

JsonObject cell(CellText const& c) {
  Json json;
  json.put("key", c.task + c.variant + c.preset);
  json.put("status", c.status);
  json.put("task", c.task);
  json.put("variant", c.variant);
  json.put("preset", c.preset);
  json.put("resident", c.resident);
  json.put("context", 2048);
  json.put("text", "a<b.txt");
  json.put("piece", c.piece);
  json.put("model", "m.gguf");
  json.put("weights", "f16");
  json.put("version", "0.1.0");
  json.put("machine", "a processor");
  json.put("threads", c.threads);
  json.put("prefill_chunk", 256);
  json.put("settings", c.settings);
  json.put("commit", "abc");
  json.put("date", "2026-01-02");
  if (c.status != "measured") {
    json.put("reason", "too | small");
    json.put("least_fraction", 0.25);
    return JsonObject::parse(json.line());
  }
  json.put("protocol", "after the prompt");
  json.put("decode_steps", 10);
  double const mean = c.resident_mean < 0.0 ? c.resident : c.resident_mean;
  json.put("resident_of_context_mean", mean);
  json.put("resident_of_context_peak", mean);
  json.put("moved_bytes_per_step_mean", 1000);
  json.put("seconds_per_token", 0.01);
  json.put("attend_seconds_per_token", 0.002);
  json.put("advance_seconds_per_token", 0.001);
  json.put("recoveries", 2);
  if (c.task == "kl" || c.task == "stress") {
    json.put("top1_agreement", 0.5);
    for (double const x : c.kl) {
      json.append("kl", x);
      json.append("nll_difference", x);
    }
    json.put("retention_layers", 2);
    for (double const x : {0.25, 0.75}) {
      json.append("retention_exact", x);
      json.append("retention_compact", 1.0 - x);
    }
  }
  if (c.wanted > 0) {
    json.put("wanted", c.wanted);
    json.put("right_each", c.right);
    int sum = 0;
    for (int const each : c.right) {
      sum += each;
    }
    json.put("right", sum);
  }
  return JsonObject::parse(json.line());
}

bool contains(std::string const& text, std::string const& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("pieces of a text make one point") {
  std::vector<JsonObject> const cells{cell({}), cell({.piece = 1, .kl = {0.2, 0.4, 0.6, 0.8}}),
                                      cell({.preset = "Other"})};
  std::vector<Scope> const scopes = find_scopes(cells);
  REQUIRE(scopes.size() == 1);
  std::vector<Point> const points = find_points(cells, scopes[0]);
  REQUIRE(points.size() == 2);
  Point const& p = points[0];
  CHECK(p.preset == "KvFreeze");
  CHECK(p.cells == 2);
  CHECK(p.positions == 6);
  CHECK(p.kl_mean == Approx(0.4));
  CHECK(p.perplexity_ratio == Approx(std::exp(0.4)));
  CHECK(p.kl_p99 == Approx(0.8));
  CHECK(std::isnan(p.kl.low));  // one block says nothing about its spread
  CHECK(p.recoveries_per_thousand == Approx(200.0));
  CHECK(p.retention_exact == std::vector<double>{0.25, 0.75});
  CHECK(p.retention_layers == 2);
}

TEST_CASE("a point with a piece missing is not measured") {
  std::vector<JsonObject> const cells{cell({}), cell({.piece = 1, .status = "unreachable"}),
                                      cell({.preset = "B", .status = "failed"})};
  std::vector<Point> const points = find_points(cells, find_scopes(cells)[0]);
  CHECK(points[0].status == CellStatus::unreachable);
  CHECK(points[0].least_fraction == 0.25);
  CHECK(points[1].status == CellStatus::failed);
  Table const missing = missing_table(points);
  REQUIRE(missing.size() == 3);
  CHECK(missing[1][2] == "25.0 %");
  CHECK(quality_table(points).size() == 1);
}

TEST_CASE("what was measured in another way is kept apart") {
  std::vector<JsonObject> const cells{cell({}), cell({.kl = {0.9}, .settings = "sinks=0"}),
                                      cell({.preset = "Other", .threads = 1})};
  std::vector<Scope> const scopes = find_scopes(cells);
  REQUIRE(scopes.size() == 2);
  CHECK(contains(scope_title(scopes[1]), "threads 1"));
  std::vector<Point> const points = find_points(cells, scopes[0]);
  REQUIRE(points.size() == 2);
  CHECK(points[0].preset == "KvFreeze [sinks=4]");
  CHECK(points[1].preset == "KvFreeze [sinks=0]");
  CHECK(points[1].kl_mean == Approx(0.9));
  CHECK(find_points(cells, scopes[1]).at(0).preset == "Other");
}

TEST_CASE("answers are summed by place") {
  std::vector<JsonObject> const cells{
      cell({.task = "passkey", .variant = "depth=10", .right = {1}, .wanted = 1}),
      cell({.task = "passkey", .variant = "depth=10", .piece = 1, .right = {0}, .wanted = 1}),
      cell({.task = "passkey", .variant = "depth=90", .right = {1}, .wanted = 1}),
      cell({.task = "needles", .variant = "depths=10-60", .right = {1, 0}, .wanted = 2}),
      cell({.task = "tracking", .variant = "hops=1", .right = {2}, .wanted = 2}),
      cell({.task = "copy", .variant = "sentences=1", .right = {1, 1, 0}, .wanted = 3})};
  std::vector<Scope> const scopes = find_scopes(cells);
  REQUIRE(scopes.size() == 4);
  auto const answers = [&](std::size_t scope) {
    return find_points(cells, scopes[scope]).at(0).answers;
  };
  REQUIRE(answers(0).size() == 2);
  CHECK(answers(0)[0].place == "10 %");
  CHECK(answers(0)[0].right == 1);
  CHECK(answers(0)[0].wanted == 2);
  REQUIRE(answers(1).size() == 2);
  CHECK(answers(1)[1].place == "60 %");
  CHECK(answers(1)[1].right == 0);
  CHECK(answers(2).at(0).place == "1 hop");
  CHECK(answers(2).at(0).wanted == 2);
  CHECK(answers(3).at(0).right == 2);
  CHECK(answers(3).at(0).wanted == 3);
  CHECK(answer_table(find_points(cells, scopes[0]))[1] ==
        std::vector<std::string>{"KvFreeze", "2/3"});
}

TEST_CASE("charts of one size take the one in the middle, and systems without") {
  auto const point = [](std::string const& preset, Fraction const& fraction) {
    Point p;
    p.preset = preset;
    p.fraction = fraction;
    return p;
  };
  std::vector<Point> const points{point("A", Fraction()), point("A", 0.1), point("A", 0.2),
                                  point("A", 0.5), point("Plain", Fraction())};
  CHECK(middle_fraction(points) == 0.2);
  std::vector<Point> const at = points_at(points, 0.2);
  REQUIRE(at.size() == 2);
  CHECK(at[0].fraction == 0.2);
  CHECK(at[1].preset == "Plain");
  CHECK(!middle_fraction(std::vector<Point>{}).has_value());
}

TEST_CASE("the best of each size comes first") {
  std::vector<JsonObject> const cells{cell({.preset = "Bad", .kl = {0.9}}),
                                      cell({.preset = "Good", .kl = {0.1}}),
                                      cell({.preset = "Small", .resident = 0.1, .kl = {2.0}})};
  Table const table = quality_table(find_points(cells, find_scopes(cells)[0]));
  REQUIRE(table.size() == 4);
  CHECK(table[1][0] == "Small");
  CHECK(table[2][0] == "Good");
  CHECK(table[3][0] == "Bad");
}

TEST_CASE("the reports hold every part, escaped, and need no network") {
  std::vector<JsonObject> const cells{
      cell({}), cell({.preset = "Plain", .kl = {0.0, 0.0}}),
      cell({.preset = "X", .status = "unreachable"}),
      cell({.task = "passkey", .variant = "depth=10", .right = {1}, .wanted = 1}),
      cell({.task = "stress", .variant = "kind=late", .right = {1, 0}, .wanted = 2})};
  std::string const html = lab_report_html(cells);
  for (char const* const part :
       {"KL against memory", "system by system", "Time for a token", "What each head kept",
        "Right answers by place", "late questions", "a&lt;b.txt", "Not measured: 1 of 3",
        "a processor", "too | small"}) {
    INFO(part);
    CHECK(contains(html, part));
  }
  for (char const* const part : {"http", "<script", "nan", "a<b.txt", "inf"}) {
    INFO(part);
    CHECK(!contains(html, part));
  }
  std::string const markdown = lab_report_markdown(cells);
  CHECK(contains(markdown, "| KvFreeze | 20.0 % | 20.0 % |"));
  CHECK(contains(markdown, "too \\| small"));
  CHECK(contains(markdown, "## Stress: late questions about early text, 2,048 tokens"));
  CHECK(contains(markdown, "| 1/2 | 200.0 |"));
  CHECK(contains(lab_report_html({}), "</html>"));
}

TEST_CASE("a system that is much larger than the others does not squeeze them") {
  std::vector<JsonObject> const cells{cell({}), cell({.preset = "Huge", .resident = 1.1}),
                                      cell({.preset = "Other", .resident = 0.5})};
  // Where everything has a cap, everything has its place.
  CHECK(!contains(lab_report_html(cells), "(at 110.0 %)"));
  CellText own{.preset = "Huge", .resident = std::nan("")};
  own.resident_mean = 1.1;
  std::vector<JsonObject> const with_own{cell({}), cell(own)};
  CHECK(contains(lab_report_html(with_own), "Huge (at 110.0 %)"));
}

TEST_CASE("a cell that lacks a figure is an error that names it") {
  std::vector<JsonObject> const cells{JsonObject::parse(
      R"({"key": "k", "task": "kl", "status": "measured", "variant": "", "context": 1, "text": "a", "preset": "P", "resident": 0.1, "model": "m", "weights": "f", "prefill_chunk": 1, "threads": 1, "version": "1", "settings": ""})")};
  CHECK_THROWS_WITH(find_points(cells, find_scopes(cells)[0]), Catch::Contains("decode_steps"));
}

TEST_CASE("labels of curves do not lie on each other") {
  std::vector<Dots> groups;
  for (int i = 0; i < 30; ++i) {
    groups.push_back({"system " + std::to_string(i), "ink", {{1.0, 0.5, "", ""}}, true});
  }
  groups.push_back({"nowhere", "ink", {{1.0, 0.0, "", ""}}, true});
  std::string const html = labelled_curves({}, groups);
  CHECK(!contains(html, "nowhere"));  // a logarithm has no 0
  std::vector<double> places;
  for (std::size_t at = html.find("class=\"name\""); at != std::string::npos;
       at = html.find("class=\"name\"", at + 1)) {
    std::size_t const y = html.rfind(" y=\"", at) + 4;
    places.push_back(std::stod(html.substr(y, 8)));
  }
  REQUIRE(places.size() == 30);
  std::sort(places.begin(), places.end());
  for (std::size_t i = 1; i < places.size(); ++i) {
    CHECK(places[i] - places[i - 1] >= 12.0);
  }
  CHECK(places.front() > 0.0);
}

TEST_CASE("charts of nothing compared are still charts") {
  for (std::string const& html : {labelled_curves({}, {}), small_multiples({}, {}, "a"),
                                  shade_panels({}, {}, "ink", 10, 10), named_bars({}, {}, {})}) {
    CHECK(contains(html, "</svg>"));
    CHECK(!contains(html, "nan"));
    CHECK(!contains(html, "inf"));
  }
}
