#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// @brief A flat JSON object: figures under their names, in the order in which they were put.
class Json {
 public:
  void put(std::string_view name, std::string_view text);
  void put(std::string_view name, double number);  ///< null where it is not finite
  void put(std::string_view name, std::nullptr_t);
  void put(std::string_view name, std::vector<int> const& numbers);
  void put(std::string_view name, std::vector<std::vector<int>> const& lists);

  void put(std::string_view name, char const* text) { put(name, std::string_view(text)); }

  template <std::integral T>
  void put(std::string_view name, T number) {
    if constexpr (std::same_as<T, bool>) {
      put_raw(name, number ? "true" : "false");
    } else {
      put_raw(name, std::to_string(number));
    }
  }

  /// @brief Adds a number to the list of this name.
  void append(std::string_view name, double number);

  /// @brief Adds another object's members.
  void append(Json const& other);

  /// The object, a member a line.
  [[nodiscard]] std::string text() const;

  /// The object in one line, without the newline.
  [[nodiscard]] std::string line() const;

 private:
  struct Member {
    std::string name;
    std::string value;  ///< of a list: what stands between the brackets
    bool is_list = false;
  };

  void put_raw(std::string_view name, std::string value);
  [[nodiscard]] std::string members_text(std::string_view separator) const;
  Member& member(std::string_view name);

  std::vector<Member> members_;
};

/// @brief One object as it is, several as a list.
std::string json_text(std::span<Json const> objects);

}  // namespace llama
