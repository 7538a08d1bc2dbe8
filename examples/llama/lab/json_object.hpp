#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace llama::lab {

/// Text that is not a flat JSON object, or lacks a member.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// @brief A flat JSON object read back: members are strings, numbers, truth values, null, or lists
/// of numbers. What `Json::line` writes.
class JsonObject {
 public:
  /// @throws JsonError that names the byte at which the text stops being such an object
  static JsonObject parse(std::string_view text);

  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }

  /// @brief A number; NaN for null, which is how numbers that are not finite are written.
  /// @throws JsonError if there is no such member, or it is something else
  [[nodiscard]] double number(std::string_view name) const;

  /// @throws JsonError as above
  [[nodiscard]] std::string const& text(std::string_view name) const;

  /// @throws JsonError as above
  [[nodiscard]] std::vector<double> const& numbers(std::string_view name) const;

  /// @brief A whole number in the range of int. @throws JsonError as above
  [[nodiscard]] int whole(std::string_view name) const;

  /// The names, in the order of the text.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  using Value = std::variant<std::nullptr_t, bool, double, std::string, std::vector<double>>;

  [[nodiscard]] Value const* find(std::string_view name) const;
  template <class T>
  [[nodiscard]] T const& get(std::string_view name, std::string_view kind) const;

  std::vector<std::pair<std::string, Value>> members_;

  friend class JsonReader;
};

}  // namespace llama::lab
