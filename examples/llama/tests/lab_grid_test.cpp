#include "lab/estimate.hpp"
#include "lab/grid.hpp"
#include "user_error.hpp"

#include <catch2/catch.hpp>

#include <functional>
#include <set>
#include <string>
#include <vector>

using namespace llama;
using namespace llama::lab;

TEST_CASE("fractions are sorted, each once, and within their range") {
  std::vector<Fraction> const expected{Fraction(), 0.1, 0.2, 1.0};
  CHECK(parse_fractions(".2,own,1,0.1,.10") == expected);
  for (char const* const text : {"0", "1.01", "-.1", "", "a", ".1,,.2", "nan"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_fractions(text), UserError);
  }
  CHECK(fraction_text(Fraction()) == "own");
  CHECK(fraction_text(0.15) == "0.15");
}

TEST_CASE("tasks have an order of their own") {
  CHECK(parse_tasks("needles,kl,needles") == std::vector<std::string>{"kl", "needles"});
  CHECK_THROWS_WITH(parse_tasks("kl,foo"), Catch::Contains("'foo'") && Catch::Contains("tracking"));
}

TEST_CASE("a system that no cap changes has one operating point") {
  std::vector<Fraction> const asked{0.1, 0.2};
  CHECK(fractions_of({"A", "", true}, asked) == asked);
  CHECK(fractions_of({"A", "", false}, asked) == std::vector<Fraction>{Fraction()});
}

TEST_CASE("a cell's key says everything that determines it") {
  SubjectName const subject{"kl", "v", 512, "a.txt", "ff", 7, 1, "seed=1"};
  SystemName const system{"KvFreeze:stay=8", "sinks=4", true};
  Circumstances const circumstances{"m.gguf", "aa", 9, "f16", 256, 2, "0.1.0"};
  std::set<std::string> keys{cell_key(subject, system, 0.1, circumstances)};
  std::size_t variants = 1;
  auto const differs = [&](auto const& change) {
    SubjectName s = subject;
    SystemName y = system;
    Circumstances c = circumstances;
    Fraction f = 0.1;
    change(s, y, c, f);
    keys.insert(cell_key(s, y, f, c));
    variants += 1;
  };
  differs([](auto& s, auto&, auto&, auto&) { s.task = "copy"; });
  differs([](auto& s, auto&, auto&, auto&) { s.variant = "w"; });
  differs([](auto& s, auto&, auto&, auto&) { s.context = 513; });
  differs([](auto& s, auto&, auto&, auto&) { s.text = "b.txt"; });
  differs([](auto& s, auto&, auto&, auto&) { s.text_hash = "fe"; });
  differs([](auto& s, auto&, auto&, auto&) { s.offset = 8; });
  differs([](auto& s, auto&, auto&, auto&) { s.piece = 2; });
  differs([](auto& s, auto&, auto&, auto&) { s.parameters = "seed=2"; });
  differs([](auto&, auto& y, auto&, auto&) { y.label = "KvFreeze"; });
  differs([](auto&, auto& y, auto&, auto&) { y.settings = "sinks=5"; });
  differs([](auto&, auto&, auto& c, auto&) { c.model = "n.gguf"; });
  differs([](auto&, auto&, auto& c, auto&) { c.model_hash = "ab"; });
  differs([](auto&, auto&, auto& c, auto&) { c.model_bytes = 10; });
  differs([](auto&, auto&, auto& c, auto&) { c.weights = "f32"; });
  differs([](auto&, auto&, auto& c, auto&) { c.prefill_chunk = 64; });
  differs([](auto&, auto&, auto& c, auto&) { c.threads = 1; });
  differs([](auto&, auto&, auto& c, auto&) { c.version = "0.2.0"; });
  differs([](auto&, auto&, auto&, auto& f) { f = 0.2; });
  differs([](auto&, auto&, auto&, auto& f) { f.reset(); });
  CHECK(keys.size() == variants);
}

TEST_CASE("hashes and file names") {
  CHECK(hash_text("") == "cbf29ce484222325");  // FNV-1a's published values
  CHECK(hash_text("a") == "af63dc4c8601ec8c");
  CHECK(hash_text("foobar") == "85944171f73967e8");
  CHECK(file_name("/a/b.txt") == "b.txt");
  CHECK(file_name("b.txt") == "b.txt");
}

TEST_CASE("estimates are what was measured, guesses put right by it") {
  auto const subject = [](std::string const& task, int context) {
    Subject s;
    s.name.task = task;
    s.name.context = context;
    s.prompt.resize(static_cast<std::size_t>(context / 2));
    s.continuation.resize(static_cast<std::size_t>(context / 2));
    return s;
  };
  Estimate estimate;
  double const guess = estimate.seconds(subject("kl", 1024));
  CHECK(guess > 0.0);
  CHECK(estimate.seconds(subject("kl", 2048)) == Approx(2.0 * guess));
  estimate.learn(subject("kl", 1024), 3.0 * guess);
  estimate.learn(subject("kl", 1024), 5.0 * guess);
  CHECK(estimate.seconds(subject("kl", 1024)) == Approx(4.0 * guess));
  CHECK(estimate.seconds(subject("copy", 2048)) == Approx(8.0 * guess));
}
