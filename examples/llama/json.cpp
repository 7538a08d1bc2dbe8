#include "json.hpp"

#include "text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace llama {

namespace {

std::string number_text(double number) {
  if (!std::isfinite(number)) {
    return "null";
  }
  std::array<char, 32> digits{};
  auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  return {digits.data(), end};
}

std::string quoted(std::string_view text) {
  static constexpr std::string_view hexadecimal = "0123456789abcdef";
  Utf8Stream characters;
  std::string result = "\"";
  for (char const c : characters.push(text)) {
    auto const code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (code < 0x20U) {
      result += "\\u00";
      result += {hexadecimal[code >> 4U], hexadecimal[code & 15U]};
    } else {
      result += c;
    }
  }
  return result + '"';
}

}  // namespace

void Json::put(std::string_view name, std::string_view text) { put_raw(name, quoted(text)); }

void Json::put(std::string_view name, double number) { put_raw(name, number_text(number)); }

void Json::put(std::string_view name, std::nullptr_t) { put_raw(name, "null"); }

void Json::put(std::string_view name, std::vector<int> const& numbers) {
  for (int const number : numbers) {
    append(name, number);
  }
}

void Json::append(std::string_view name, double number) {
  Member& list = member(name);
  list.is_list = true;
  list.value += (list.value.empty() ? "" : ", ") + number_text(number);
}

void Json::append(Json const& other) {
  for (Member const& m : other.members_) {
    member(m.name) = m;
  }
}

std::string Json::text() const {
  return (members_.empty() ? "{" : "{\n  ") + members_text(",\n  ") + "\n}\n";
}

std::string Json::line() const { return "{" + members_text(", ") + "}"; }

std::string Json::members_text(std::string_view separator) const {
  std::string result;
  for (Member const& m : members_) {
    result += (result.empty() ? "" : std::string(separator)) + quoted(m.name) + ": " +
              (m.is_list ? "[" + m.value + "]" : m.value);
  }
  return result;
}

void Json::put_raw(std::string_view name, std::string value) {
  member(name).value = std::move(value);
}

Json::Member& Json::member(std::string_view name) {
  auto const found = std::find_if(members_.begin(), members_.end(),
                                  [&](Member const& m) { return m.name == name; });
  return found != members_.end() ? *found : members_.emplace_back(Member{std::string(name), ""});
}

std::string json_text(std::span<Json const> objects) {
  if (objects.size() == 1) {
    return objects.front().text();
  }
  std::string result;
  for (Json const& object : objects) {
    std::string const text = object.text();
    result += (result.empty() ? "[" : ", ") + text.substr(0, text.size() - 1);
  }
  return result + "]\n";
}

}  // namespace llama
