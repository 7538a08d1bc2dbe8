#include "json_object.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

namespace llama::lab {

/// Reads one object from left to right.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  JsonObject object() {
    JsonObject result;
    expect('{');
    if (!accept('}')) {
      do {
        std::string name = string();
        expect(':');
        if (result.has(name)) {
          fail("a second member '" + name + "'");
        }
        result.members_.emplace_back(std::move(name), value());
      } while (accept(','));
      expect('}');
    }
    skip_blanks();
    if (at_ != text_.size()) {
      fail("more text behind the object");
    }
    return result;
  }

 private:
  [[noreturn]] void fail(std::string const& what) const {
    throw JsonError(what + " at byte " + std::to_string(at_));
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n')) {
      ++at_;
    }
  }

  bool accept(char c) {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == c) {
      ++at_;
      return true;
    }
    return false;
  }

  void expect(char c) {
    if (!accept(c)) {
      fail(std::string("'") + c + "' is missing");
    }
  }

  bool accept_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) {
      return false;
    }
    at_ += word.size();
    return true;
  }

  std::optional<double> number() {
    skip_blanks();
    double result = 0.0;
    char const* const begin = text_.data() + at_;
    auto const [end, status] = std::from_chars(begin, text_.data() + text_.size(), result);
    if (status != std::errc{} || !std::isfinite(result)) {  // JSON knows neither nan nor inf
      return {};
    }
    at_ += static_cast<std::size_t>(end - begin);
    return result;
  }

  JsonObject::Value value() {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '"') {
      return string();
    }
    if (accept_word("true")) {
      return true;
    }
    if (accept_word("false")) {
      return false;
    }
    if (accept_word("null")) {
      return nullptr;
    }
    if (accept('[')) {
      return list();
    }
    if (auto const n = number()) {
      return *n;
    }
    fail("no value");
  }

  std::vector<double> list() {
    std::vector<double> numbers;
    if (accept(']')) {
      return numbers;
    }
    do {
      skip_blanks();
      if (accept_word("null")) {
        numbers.push_back(std::numeric_limits<double>::quiet_NaN());
      } else if (auto const n = number()) {
        numbers.push_back(*n);
      } else {
        fail("no number in the list");
      }
    } while (accept(','));
    expect(']');
    return numbers;
  }

  std::string string() {
    expect('"');
    std::string result;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (static_cast<unsigned char>(text_[at_]) < 0x20U) {
        fail("a control character in a string");
      }
      if (text_[at_] == '\\') {
        ++at_;
        result += escaped();
      } else {
        result += text_[at_++];
      }
    }
    if (at_ == text_.size()) {
      fail("a string without end");
    }
    ++at_;
    return result;
  }

  /// What stands behind a backslash. Json writes no other \u than those of control characters.
  char escaped() {
    char const c = at_ < text_.size() ? text_[at_++] : '\0';
    switch (c) {
      case '"':
      case '\\':
      case '/':
        return c;
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'u': {
        unsigned code = 0;
        char const* const begin = text_.data() + at_;
        char const* const end = begin + std::min<std::size_t>(4, text_.size() - at_);
        auto const [stop, status] = std::from_chars(begin, end, code, 16);
        if (status != std::errc{} || stop != begin + 4 || code >= 0x80U) {
          fail("an unknown escape");
        }
        at_ += 4;
        return static_cast<char>(code);
      }
      default:
        fail("an unknown escape");
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

JsonObject JsonObject::parse(std::string_view text) { return JsonReader(text).object(); }

JsonObject::Value const* JsonObject::find(std::string_view name) const {
  auto const found = std::find_if(members_.begin(), members_.end(),
                                  [&](auto const& member) { return member.first == name; });
  return found != members_.end() ? &found->second : nullptr;
}

template <class T>
T const& JsonObject::get(std::string_view name, std::string_view kind) const {
  Value const* const value = find(name);
  if (value == nullptr) {
    throw JsonError("the member '" + std::string(name) + "' is missing");
  }
  T const* const held = std::get_if<T>(value);
  if (held == nullptr) {
    throw JsonError("the member '" + std::string(name) + "' is no " + std::string(kind));
  }
  return *held;
}

double JsonObject::number(std::string_view name) const {
  Value const* const value = find(name);
  if (value != nullptr && std::holds_alternative<std::nullptr_t>(*value)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return get<double>(name, "number");
}

std::string const& JsonObject::text(std::string_view name) const {
  return get<std::string>(name, "text");
}

std::vector<double> const& JsonObject::numbers(std::string_view name) const {
  return get<std::vector<double>>(name, "list of numbers");
}

int JsonObject::whole(std::string_view name) const {
  double const value = get<double>(name, "number");
  if (value != std::floor(value) || std::fabs(value) > std::numeric_limits<int>::max()) {
    throw JsonError("the member '" + std::string(name) + "' is no whole number");
  }
  return static_cast<int>(value);
}

std::vector<std::string> JsonObject::names() const {
  std::vector<std::string> result;
  for (auto const& [name, value] : members_) {
    result.push_back(name);
  }
  return result;
}

}  // namespace llama::lab
