#include "text.hpp"

#include "user_error.hpp"

#include <catch2/catch.hpp>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

using namespace llama;

TEST_CASE("numbers for people") {
  CHECK(format_count(7) == "7");
  CHECK(format_count(1234567) == "1,234,567");
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1234567) == "1.23 MB");
  CHECK(format_bytes(45.6e6) == "45.6 MB");
  CHECK(format_duration(83) == "1:23");
  CHECK(format_percent(0.1234) == "12.3 %");
}

TEST_CASE("lists of numbers") {
  CHECK(parse_list("10,30,50", "--depths", 0, 100) == std::vector<int>{10, 30, 50});
  for (char const* bad : {"", "1,,2", "1,x", "101", "-1", "3,"}) {
    CHECK_THROWS_AS(parse_list(bad, "--depths", 0, 100), UserError);
  }
}

TEST_CASE("UTF-8 comes out in whole characters") {
  Utf8Stream stream;
  CHECK(stream.push("a\xC3") == "a");
  CHECK(stream.push("\xA9z") == "\xC3\xA9z");
  CHECK(stream.push("\xF0\x9F\x98").empty());
  CHECK(stream.push("\x80") == "\xF0\x9F\x98\x80");
  CHECK(stream.push("\xFF!") == "\xEF\xBF\xBD!");
  CHECK(stream.push("\xE2\x82") == "");
  CHECK(stream.push("x") == "\xEF\xBF\xBDx");
}

TEST_CASE("a file is found writable without a trace") {
  auto const folder = std::filesystem::temp_directory_path();
  std::string const path = (folder / "kvfreeze_check_writable").string();
  std::filesystem::remove(path);
  check_writable(path);
  CHECK_FALSE(std::filesystem::exists(path));
  write_text_file(path, "kept");
  check_writable(path);
  CHECK(read_text_file(path) == "kept");
  std::filesystem::remove(path);
  CHECK_THROWS_AS(check_writable((folder / "no_such_folder" / "x").string()), UserError);
  CHECK_THROWS_AS(read_text_file(path), UserError);
}

TEST_CASE("names carry settings") {
  auto const names = parse_names("A:x=1,y=2;B,C:z=.5,D", "--preset");
  REQUIRE(names.size() == 4);
  CHECK(names[0].name == "A");
  CHECK(names[0].text == "A:x=1,y=2");
  CHECK(names[0].settings ==
        std::vector<std::pair<std::string, std::string>>{{"x", "1"}, {"y", "2"}});
  CHECK(names[1].name == "B");
  CHECK(names[1].settings.empty());
  CHECK(names[2].text == "C:z=.5");
  CHECK(names[3].name == "D");
  for (char const* bad : {"A:x", "A:=1", "A:x=", "A:"}) {
    CHECK_THROWS_AS(parse_names(bad, "--preset"), UserError);
  }
}

TEST_CASE("numbers of people") {
  CHECK(parse_number(".15", "x") == Approx(0.15));
  CHECK(parse_number("1e-3", "x") == Approx(0.001));
  for (char const* bad : {"", "1x", "nan", "inf", "1,2"}) {
    CHECK_THROWS_AS(parse_number(bad, "x"), UserError);
  }
}

TEST_CASE("sentences end behind their full stop") {
  auto const sentences = split_sentences("One is 1.5 here. Two, e.g. this.\nThree");
  REQUIRE(sentences.size() == 3);
  CHECK(sentences[0] == "One is 1.5 here. ");
  CHECK(sentences[1] == "Two, e.g. this.\n");
  CHECK(sentences[2] == "Three");
  CHECK(split_sentences("").empty());
}
