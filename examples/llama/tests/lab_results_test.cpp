#include "lab/json_object.hpp"
#include "lab/results.hpp"
#include "text.hpp"
#include "user_error.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

using namespace llama;
using namespace llama::lab;

namespace {

/// A file that is gone at the end of a test.
class TemporaryFile {
 public:
  TemporaryFile()
      : path_(std::filesystem::temp_directory_path() /
              ("kvfreeze_lab_" + std::to_string(counter++) + "_" +
               std::to_string(reinterpret_cast<std::uintptr_t>(this)) + ".jsonl")) {
    std::filesystem::remove(path_);
  }

  TemporaryFile(TemporaryFile const&) = delete;
  TemporaryFile& operator=(TemporaryFile const&) = delete;

  ~TemporaryFile() { std::filesystem::remove(path_); }

  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  static inline int counter = 0;
  std::filesystem::path path_;
};

Json cell(std::string const& key) {
  Json json;
  json.put("key", key);
  json.put("status", "measured");
  json.put("task", "kl");
  json.put("kl_mean", 0.25);
  return json;
}

std::string message_of(std::string const& text) {
  try {
    static_cast<void>(parse_results(text, "r.jsonl"));
  } catch (UserError const& error) {
    return error.what();
  }
  return "";
}

bool contains(std::string const& text, std::string const& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a flat JSON object comes back as it was written") {
  Json json;
  json.put("name", "a \"b\" \\ c\n\x01|");
  json.put("number", -1.5e-7);
  json.put("nothing", std::nan(""));
  json.put("good", true);
  json.put("list", std::vector<int>{3, 1, 2});
  json.append("mixed", 0.5);
  json.append("mixed", std::nan(""));
  std::string const line = json.line();
  CHECK(line.find('\n') == std::string::npos);
  JsonObject const read = JsonObject::parse(line);
  CHECK(read.text("name") == "a \"b\" \\ c\n\x01|");
  CHECK(read.number("number") == -1.5e-7);
  CHECK(std::isnan(read.number("nothing")));
  CHECK(read.numbers("list") == std::vector<double>{3.0, 1.0, 2.0});
  CHECK(read.numbers("mixed")[0] == 0.5);
  CHECK(std::isnan(read.numbers("mixed")[1]));
  CHECK(read.names() ==
        std::vector<std::string>{"name", "number", "nothing", "good", "list", "mixed"});
  CHECK(JsonObject::parse(json.text()).number("number") == -1.5e-7);
}

TEST_CASE("what is no flat JSON object is refused") {
  for (char const* const text :
       {"", "{", "[]", "{\"a\": }", "{\"a\": 1,}", "{\"a\": 1} x", "{\"a\": {}}", "{\"a\": nan}",
        "{\"a\": \"b}", "{\"a\": 1, \"a\": 2}", "{\"a\": [\"b\"]}", "{\"a\": \"\\u00e4\"}",
        "{\"a\": inf}", "{a: 1}", "{\"a\" 1}", "{\"a\": [1, 2}"}) {
    INFO(text);
    CHECK_THROWS_AS(JsonObject::parse(text), JsonError);
  }
  JsonObject const object = JsonObject::parse(R"({"a": 1.5, "b": "x"})");
  CHECK_THROWS_AS(object.number("c"), JsonError);
  CHECK_THROWS_AS(object.number("b"), JsonError);
  CHECK_THROWS_AS(object.whole("a"), JsonError);
  CHECK_THROWS_AS(object.numbers("a"), JsonError);
}

TEST_CASE("a results file is gone on with, wherever it was cut short") {
  std::vector<std::string> const keys{"a", "b", "c"};
  TemporaryFile const whole;
  {
    ResultsFile file(whole.path());
    for (std::string const& key : keys) {
      file.append(cell(key));
    }
  }
  std::string const expected = read_text_file(whole.path());
  CHECK(parse_results(expected, "").cells.size() == 3);
  for (std::size_t length = 0; length <= expected.size(); ++length) {
    TemporaryFile const cut;
    write_text_file(cut.path(), expected.substr(0, length));
    {
      ResultsFile file(cut.path());
      CHECK((file.results().rest_bytes > 0) == (length > 0 && expected[length - 1] != '\n'));
      for (std::string const& key : keys) {
        if (!file.results().has(key)) {
          file.append(cell(key));
        }
      }
    }
    REQUIRE(read_text_file(cut.path()) == expected);
  }
}

TEST_CASE("a results file that cannot be read names the line and stays as it was") {
  std::string const head = results_header() + "\n";
  std::string const good = cell("a").line() + "\n";
  CHECK(contains(message_of(head + good + "{\"key\": \n" + good), "line 3"));
  CHECK(contains(message_of(head + "{\"task\": \"kl\", \"status\": \"x\"}\n"), "'key'"));
  CHECK(contains(message_of("{\"format\": \"kvfreeze lab results\", \"version\": 7}\n"),
                 "version 7"));
  CHECK(contains(message_of(good), "line 1"));
  CHECK(contains(message_of("hello\n"), "mv 'r.jsonl'"));

  TemporaryFile const broken;
  std::string const text = head + "{\"key\": 1}\n" + good + "{\"ke";
  write_text_file(broken.path(), text);
  CHECK_THROWS_AS(ResultsFile(broken.path()), UserError);
  CHECK(read_text_file(broken.path()) == text);
}

TEST_CASE("two programs do not write one results file") {
  TemporaryFile const shared;
  ResultsFile const first(shared.path());
  CHECK_THROWS_WITH(ResultsFile(shared.path()), Catch::Contains("another program"));
}

TEST_CASE("a results file in no folder is an error of the user") {
  CHECK_THROWS_AS(ResultsFile("/nonexistent/folder/r.jsonl"), UserError);
}

TEST_CASE("a cell without a key is not written") {
  TemporaryFile const file;
  ResultsFile results(file.path());
  Json json;
  json.put("task", "kl");
  CHECK_THROWS_AS(results.append(json), JsonError);
  CHECK(read_text_file(file.path()) == results_header() + "\n");
}
