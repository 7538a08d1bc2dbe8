#include "lab/json_object.hpp"
#include "lab/measure.hpp"
#include "lab/subjects.hpp"
#include "prose.hpp"
#include "support.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

using namespace llama;
using namespace llama::lab;

namespace {

constexpr int context = 512;

CommonOptions options_for(std::string const& model) {
  CommonOptions options;
  options.model = model;
  options.context = 1;  // each cell has its own
  options.prefill_chunk = 64;
  return options;
}

/// Short, but long enough for the caps to bind.
std::vector<Subject> short_subjects(Engine const& engine) {
  SubjectPlan plan;
  plan.tasks = {"kl", "needles", "copy"};
  plan.contexts = {context};
  plan.texts = {{"prose", filler_prose(200)}};
  plan.needle_depths = {20, 70};
  plan.copy_sentences = 1;
  std::vector<Subject> subjects = make_subjects(plan, engine.tokenizer());
  subjects[0].continuation.resize(48);
  for (Question& question : subjects[1].questions) {
    question.answer_tokens = 4;
  }
  return subjects;
}

/// A cell without what depends on time.
std::string timeless(std::string const& line) {
  std::string text;
  std::size_t at = 0;
  while (at < line.size()) {
    std::size_t const end = std::min(line.find(", \"", at), line.size());
    std::string const member = line.substr(at, end - at);
    if (member.find("second") == std::string::npos) {
      text += member + "\n";
    }
    at = end + 2;
  }
  return text;
}

struct Lab {
  explicit Lab(std::string const& model)
      : engine(options_for(model)),
        subjects(short_subjects(engine)),
        systems(make_systems(engine, find_choices("Plain;KvFreeze;StreamingLlm"), context,
                             [](std::string const&) { return false; })) {}

  /// @return every cell by its key
  std::map<std::string, std::string> measure(
      std::function<bool(std::string const&)> const& wanted,
      std::function<void()> const& tick = [] {}) {
    std::map<std::string, std::string> cells;
    Measurement measurement(engine, {"m", "h", 1, "file", 64, 1, "v"}, {"machine", "commit"}, tick);
    for (Subject const& subject : subjects) {
      measurement.measure(subject, systems, {Fraction(), 0.05, 0.45, 0.7},
                          {.wanted = wanted,
                           .begins = [](std::string const&, Fraction const&) {},
                           .done =
                               [&](Json const& cell) {
                                 std::string const line = cell.line();
                                 cells.emplace(JsonObject::parse(line).text("key"), line);
                               }});
    }
    return cells;
  }

  Engine engine;
  std::vector<Subject> subjects;
  std::vector<System> systems;
};

}  // namespace

TEST_CASE("a cell says the same whether others were measured before it or not") {
  std::string const model = model_path();
  if (model.empty()) {
    return;
  }
  Lab lab(model);
  auto const all = lab.measure([](std::string const&) { return true; });
  REQUIRE(all.size() == 3 * (1 + 4 + 4));
  for (auto const& [key, line] : all) {
    JsonObject const cell = JsonObject::parse(line);
    INFO(key);
    if (cell.text("preset") != "Plain" && cell.number("resident") == 0.05) {
      CHECK(cell.text("status") == "unreachable");
      CHECK(cell.number("least_fraction") > 0.05);
      continue;
    }
    REQUIRE(cell.text("status") == "measured");
    CHECK(cell.number("decode_steps") > 0);
    if (cell.text("protocol") != "none") {  // law 4: the cap is never exceeded
      CHECK(cell.number("resident_of_context_peak") <= cell.number("resident"));
    }
    if (cell.text("task") == "kl") {
      if (cell.text("preset") == "Plain") {
        CHECK(cell.number("kl_mean") == 0.0);
      } else if (cell.number("resident") == 0.45) {  // less than what the text has by then
        CHECK(cell.number("kl_mean") > 0.0);
      }
      CHECK(cell.numbers("kl").size() == 47);
      CHECK(cell.numbers("retention_exact").size() ==
            static_cast<std::size_t>(lab.engine.shape().layers * lab.engine.shape().kv_heads));
    }
    CHECK(cell.has("wanted") == (cell.text("task") != "kl"));
  }
  // Some alone, so that each reads its own prompt.
  int number = 0;
  for (auto const& [key, line] : all) {
    if (number++ % 4 == 0) {
      auto const one = lab.measure([&](std::string const& asked) { return asked == key; });
      REQUIRE(one.size() == 1);
      CHECK(timeless(one.at(key)) == timeless(line));
    }
  }
}

TEST_CASE("a laboratory that is stopped leaves whole cells only") {
  struct Stop {};

  std::string const model = model_path();
  if (model.empty()) {
    return;
  }
  Lab lab(model);
  lab.subjects.resize(1);
  int ticks = 0;
  int cells = 0;
  Measurement measurement(lab.engine, {"m", "h", 1, "file", 64, 1, "v"}, {"machine", "commit"},
                          [&] {
                            if (++ticks > 150) {
                              throw Stop();
                            }
                          });
  Measurement::Callbacks const callbacks{
      .wanted = [](std::string const&) { return true; },
      .begins = [](std::string const&, Fraction const&) {},
      .done =
          [&](Json const& cell) {
            CHECK(JsonObject::parse(cell.line()).text("status") != "failed");
            cells += 1;
          }};
  CHECK_THROWS_AS(measurement.measure(lab.subjects[0], lab.systems, {0.45, 0.7}, callbacks), Stop);
  CHECK(cells > 0);
  CHECK(cells < 5);
}

TEST_CASE("caps belong to --resident") {
  std::string const model = model_path();
  if (model.empty()) {
    return;
  }
  Engine engine(options_for(model));
  auto const never = [](std::string const&) { return false; };
  CHECK_THROWS_WITH(make_systems(engine, find_choices("KvFreeze:resident=0.2"), context, never),
                    Catch::Contains("--resident"));
}
