#include "byte_vocabulary.hpp"
#include "lab/subjects.hpp"
#include "prose.hpp"
#include "user_error.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <string>
#include <vector>

using namespace llama;
using namespace llama::lab;

namespace {

constexpr int context = 4096;  // a token is a byte here

SubjectPlan plan_of(std::vector<std::string> tasks) {
  SubjectPlan plan;
  plan.tasks = std::move(tasks);
  plan.contexts = {context};
  plan.texts = {{"a.txt", filler_prose(400)}, {"b.txt", filler_prose(400, 5)}};
  return plan;
}

std::vector<Subject> make(SubjectPlan const& plan) {
  Tokenizer const tokenizer(byte_vocabulary());
  return make_subjects(plan, tokenizer);
}

std::string words(std::vector<int> const& tokens) {
  return Tokenizer(byte_vocabulary()).decode(tokens);
}

std::size_t occurrences(std::string const& text, std::string const& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

int longest(Subject const& s) {
  int tokens = static_cast<int>(s.continuation.size());
  for (Question const& q : s.questions) {
    tokens = std::max(tokens, static_cast<int>(q.tokens.size()) + q.answer_tokens);
  }
  return static_cast<int>(s.prompt.size()) + tokens;
}

std::string recalled_text(Subject const& s) {
  std::vector<int> tokens;
  for (int const at : s.recalled) {
    tokens.push_back(s.continuation[static_cast<std::size_t>(at)]);
  }
  return words(tokens);
}

}  // namespace

TEST_CASE("every subject fits its context, and is the same on every run") {
  SubjectPlan const plan = plan_of({"kl", "passkey", "needles", "tracking", "copy", "stress"});
  std::vector<Subject> const subjects = make(plan);
  std::vector<Subject> const again = make(plan);
  // 1 kl, 5 depths, 1 needles, 4 hops, 1 copy, 3 stress for each text; code once
  REQUIRE(subjects.size() == 2 * (1 + 5 + 1 + 4 + 1 + 3) + 1);
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    Subject const& s = subjects[i];
    INFO(s.name.task << " " << s.name.variant << " " << s.name.text);
    CHECK(longest(s) <= context);
    CHECK(longest(s) > context * 3 / 4);  // nor is it much less than asked for
    CHECK(s.continuation.empty() != s.questions.empty());
    CHECK(std::is_sorted(s.recalled.begin(), s.recalled.end()));
    CHECK(s.prompt == again[i].prompt);
    CHECK(s.continuation == again[i].continuation);
    bool const generated = s.name.text == "generated";
    CHECK(generated == (s.name.variant == "kind=code"));
  }
}

TEST_CASE("pieces for kl follow each other, the first half is the prompt") {
  SubjectPlan plan = plan_of({"kl"});
  plan.pieces = 2;
  plan.offset = 10;
  std::vector<Subject> const subjects = make(plan);
  REQUIRE(subjects.size() == 4);
  std::string text;
  for (int i = 0; i < 2; ++i) {
    Subject const& s = subjects[static_cast<std::size_t>(i)];
    CHECK(s.name.piece == i);
    CHECK(s.prompt.size() == context / 2);
    text += words(s.prompt) + words(s.continuation);
  }
  CHECK(text == plan.texts[0].content.substr(10, 2 * context));
}

TEST_CASE("the pass key is where it should be") {
  SubjectPlan plan = plan_of({"passkey"});
  plan.depths = {0, 50, 100};
  plan.trials = 2;
  std::vector<Subject> const subjects = make(plan);
  REQUIRE(subjects.size() == 12);
  std::string const& key = subjects[0].questions[0].wanted[0];
  std::vector<double> places;
  for (std::size_t i = 0; i < 3; ++i) {
    std::string const text = words(subjects[i].prompt);
    CHECK(subjects[i].questions[0].wanted[0] == key);  // one key, one prose, three depths
    CHECK(occurrences(text, key) == 2);
    places.push_back(static_cast<double>(text.find("The pass key is " + key)) /
                     static_cast<double>(text.size()));
  }
  CHECK(places[0] < 0.1);
  CHECK(places[1] == Approx(0.5).margin(0.06));
  CHECK(places[2] > 0.9);
  CHECK(subjects[3].questions[0].wanted[0] != key);  // the next trial
  CHECK(words(subjects[3].prompt).substr(300, 200) != words(subjects[0].prompt).substr(300, 200));
}

TEST_CASE("needles have a question each") {
  for (Subject const& s : make(plan_of({"needles"}))) {
    std::string const text = words(s.prompt);
    REQUIRE(s.questions.size() == 4);
    for (Question const& q : s.questions) {
      std::string const asked = words(q.tokens);
      std::size_t const at = asked.find("for ") + 4;
      std::string const city = asked.substr(at, asked.find('?') - at);
      CHECK(occurrences(text, "number for " + city + " is " + q.wanted[0] + ".") == 1);
    }
  }
}

TEST_CASE("variables are chained as told") {
  SubjectPlan plan = plan_of({"tracking"});
  plan.hops = {0, 3};
  std::vector<Subject> const subjects = make(plan);
  REQUIRE(subjects.size() == 4);
  CHECK(subjects[0].questions[0].wanted.size() == 1);
  Question const& q = subjects[1].questions[0];
  REQUIRE(q.wanted.size() == 4);
  std::string const text = words(subjects[1].prompt);
  std::size_t before = 0;
  for (std::size_t i = 0; i < q.wanted.size(); ++i) {
    std::string const value = i == 0 ? "" : "VAR " + q.wanted[i - 1] + ". ";
    std::size_t const at = text.find("VAR " + q.wanted[i] + " = " + value);
    REQUIRE(at != std::string::npos);
    CHECK(at > before + context / 8);  // far apart
    before = at;
  }
  std::string const asked = words(q.tokens);
  std::size_t const at = text.find("VAR " + q.wanted[0] + " = ") + 10;
  CHECK(occurrences(asked, text.substr(at, 5)) == 2);  // the first variable's value
}

TEST_CASE("what is to be copied stands at the beginning") {
  SubjectPlan plan = plan_of({"copy"});
  plan.copy_sentences = 2;
  std::vector<Subject> const subjects = make(plan);
  std::string const passage = recalled_text(subjects[0]);
  CHECK(passage.size() > 100);
  CHECK(words(subjects[0].prompt).find(passage) == std::string("Passage A:").size());
  CHECK(words(subjects[0].continuation).ends_with(passage));
  plan.seed = 2;
  CHECK(recalled_text(make(plan)[0]) != passage);
}

TEST_CASE("stress texts are what they say") {
  SubjectPlan const plan = plan_of({"stress"});
  std::vector<Subject> const subjects = make(plan);
  REQUIRE(subjects.size() == 7);
  CHECK(subjects[0].name.variant == "kind=calm");
  Subject const& switching = subjects[1];
  CHECK(switching.name.variant == "kind=switch");
  std::size_t const block = context / 16;
  CHECK(words(switching.prompt).substr(0, block) == plan.texts[0].content.substr(0, block));
  CHECK(words(switching.prompt).substr(block, block) == plan.texts[1].content.substr(0, block));
  CHECK(words(switching.prompt).substr(2 * block, block) ==
        plan.texts[0].content.substr(block, block));
  Subject const& late = subjects[2];
  CHECK(late.name.variant == "kind=late");
  std::string const numbers = recalled_text(late);
  REQUIRE(numbers.size() == 28);
  for (std::size_t i = 0; i < 4; ++i) {
    std::string const number = numbers.substr(7 * i, 7);
    CHECK(occurrences(words(late.prompt), number) == 1);
    CHECK(words(late.prompt).find(number) < late.prompt.size() * 2 / 3);
  }
  Subject const& code = subjects[3];
  std::string const constants = recalled_text(code);
  REQUIRE(constants.size() == 30);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(occurrences(words(code.prompt).substr(0, 400), constants.substr(5 * i, 5)) == 1);
  }
}

TEST_CASE("one text takes turns with its own middle") {
  SubjectPlan plan = plan_of({"stress"});
  plan.texts.resize(1);
  Subject const switching = make(plan)[1];
  std::size_t const block = context / 16;
  std::string const& text = plan.texts[0].content;
  CHECK(words(switching.prompt).substr(block, block) == text.substr(text.size() / 2, block));
}

TEST_CASE("texts that are too short are told with numbers") {
  SubjectPlan plan = plan_of({"kl"});
  plan.texts[0].content.resize(3000);
  CHECK_THROWS_WITH(make(plan),
                    Catch::Contains("a.txt") && Catch::Contains("3000") && Catch::Contains("4096"));
  plan.tasks = {"needles"};
  CHECK_THROWS_WITH(make(plan), Catch::Contains("needles") && Catch::Contains("a.txt"));
  plan.offset = 3000;
  CHECK_THROWS_WITH(make(plan), Catch::Contains("--offset 3000"));
  plan = plan_of({"passkey"});
  plan.contexts = {256};
  CHECK_THROWS_WITH(make(plan), Catch::Contains("256"));
}
