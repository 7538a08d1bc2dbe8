#include "json.hpp"

#include <catch2/catch.hpp>

#include <limits>
#include <vector>

using namespace llama;

TEST_CASE("JSON keeps the order and the kind of its values") {
  Json json;
  json.put("count", 3U);
  json.put("ratio", 0.1);
  json.put("large", 1e300);
  json.put("flag", true);
  json.put("nothing", nullptr);
  json.put("bad", std::numeric_limits<double>::quiet_NaN());
  json.put("list", std::vector<int>{1, 2});
  json.append("list", 2.5);
  json.put("count", -4);
  CHECK(json.text() ==
        "{\n  \"count\": -4,\n  \"ratio\": 0.1,\n  \"large\": 1e+300,\n  \"flag\": true,\n"
        "  \"nothing\": null,\n  \"bad\": null,\n  \"list\": [1, 2, 2.5]\n}\n");
}

TEST_CASE("JSON holds lists of lists, empty ones too") {
  Json json;
  json.put("rows", std::vector<std::vector<int>>{{1, 22}, {}, {3}});
  json.put("none", std::vector<std::vector<int>>{});
  CHECK(json.text() == "{\n  \"rows\": [[1, 22], [], [3]],\n  \"none\": []\n}\n");
}

TEST_CASE("JSON text is escaped and valid UTF-8") {
  Json json;
  json.put("a", "\"q\" \\ \n \t \x01 \xC3\xA9 \xFF!");
  CHECK(json.text() ==
        "{\n  \"a\": \"\\\"q\\\" \\\\ \\n \\u0009 \\u0001 \xC3\xA9 \xEF\xBF\xBD!\"\n}\n");
}

TEST_CASE("one JSON object stands alone, several make a list") {
  std::vector<Json> objects(2);
  CHECK(json_text(std::vector<Json>(1)) == "{\n}\n");
  CHECK(json_text(objects) == "[{\n}, {\n}]\n");
}
