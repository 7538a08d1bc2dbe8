#include "charts.hpp"

#include "report_html.hpp"

#include <catch2/catch.hpp>

#include <string>

using namespace llama;

TEST_CASE("HTML text is escaped") {
  CHECK(escape_html("a<b & \"c\" > 'd'") == "a&lt;b &amp; &quot;c&quot; &gt; &#39;d&#39;");
  CHECK(escape_html("").empty());
}

TEST_CASE("a report shows generated text as text") {
  HtmlReport report;
  report.title = "t";
  report.text = "<script>alert(1)</script>";
  report.prompt = "<b>";
  std::string const html = render_html(report);
  CHECK(html.find("<script") == std::string::npos);
  CHECK(html.find("&lt;script&gt;") != std::string::npos);
  CHECK(html.find("http") == std::string::npos);  // it needs no network
}

TEST_CASE("a report with steps has a chart for each figure") {
  HtmlReport report;
  for (int i = 1; i <= 3; ++i) {
    Step step;
    step.report.rows = {.exact = 10, .compact = 0, .frozen = 5, .asleep = 0, .evicted = 0};
    step.report.full_bytes = 1000;
    step.report.has_logits = true;
    step.report.entropy = 1.0F;
    step.report.recovery = i == 2 ? kvfreeze::Recovery::soft : kvfreeze::Recovery::none;
    report.steps.push_back(step);
  }
  report.cap_bytes = 800;
  report.map = {
      .layers = 1,
      .lanes_per_layer = 1,
      .length = 3,
      .cells = {kvfreeze::Fidelity::exact, kvfreeze::Fidelity::frozen, kvfreeze::Fidelity::frozen}};
  std::string const html = render_html(report);
  for (char const* title : {"Rows by fidelity", "Resident memory", "Bytes moved per step",
                            "Entropy of the next token", "Fidelity of every row"}) {
    CHECK(html.find(title) != std::string::npos);
  }
  CHECK(html.find("SR at token 1") != std::string::npos);
  CHECK(html.find("M0 0.5h1") != std::string::npos);  // the exact row
  CHECK(html.find("M1 0.5h2") != std::string::npos);  // the frozen run
  CHECK(html.find("nan") == std::string::npos);
}

TEST_CASE("charts of nothing are still charts") {
  CHECK(lines({}, {{"empty", "ink", {}}}).find("nan") == std::string::npos);
  CHECK(stacked_areas({}, {}).find("</svg>") != std::string::npos);
  CHECK(stacked_bars({}, {{"zero", "ink", {0.0}}}).find("nan") == std::string::npos);
}

TEST_CASE("a scatter chart has a logarithmic axis") {
  Dots const front{
      "front", "resident", {{0.1, 0.001, "a<b", ""}, {0.2, 0.1, "c", "C"}}, /*joined=*/true};
  Dots const zero{"zero", "cap", {{0.1, 0.0, "never", ""}}, /*joined=*/false};
  std::string const html = scatter({}, {front, zero});
  CHECK(html.find("a&lt;b") != std::string::npos);
  CHECK(html.find(">C</text>") != std::string::npos);
  CHECK(html.find("never") == std::string::npos);  // a logarithm has no 0
  CHECK(html.find(">0.01</text>") != std::string::npos);
  CHECK(html.find("nan") == std::string::npos);
  CHECK(scatter({}, {}).find("nan") == std::string::npos);
}
