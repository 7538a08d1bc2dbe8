#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama {

/// @brief 1234567 -> "1,234,567".
std::string format_count(std::uint64_t n);

/// @brief 1234567 -> "1.23 MB" (powers of ten).
std::string format_bytes(double bytes);

/// @brief `printf("%.*f")`.
std::string format_number(double x, int decimals);

/// @brief 0.1234 -> "12.3 %".
std::string format_percent(double fraction);

/// @brief 83 -> "1:23".
std::string format_duration(double seconds);

/// @brief A small probability-like number with three significant digits.
std::string format_small(double x);

/// @brief "0.0012-0.0034"; a dash where the ends are not known.
std::string format_range(double low, double high, std::string (*format)(double) = &format_small);

/// @throws UserError if the file cannot be read
std::string read_text_file(std::string const& path);

/// @throws UserError if the file cannot be written
void write_text_file(std::string const& path, std::string_view text);

/// @brief Finds out before the long work whether a file can be written; leaves it as it was.
/// @throws UserError if it cannot
void check_writable(std::string const& path);

/// @brief "10,30,50" -> {10, 30, 50}.
/// @throws UserError that names the option if an item is not a number in [least, most]
std::vector<int> parse_list(std::string_view text, std::string_view option, int least, int most);

/// A name with settings: "KvFreeze:resident=0.15,stay=8".
struct NamedSettings {
  std::string text;  ///< all of it, as it was written
  std::string name;
  std::vector<std::pair<std::string, std::string>> settings;
};

/// @brief "A:x=1,y=2;B,C" -> A with two settings, B, C. Semicolons and commas both separate; what
/// has a '=' and no ':' belongs to the name before it.
/// @throws UserError that names the option if the text cannot be read so
std::vector<NamedSettings> parse_names(std::string_view text, std::string_view option);

/// @brief A number as people write it: "0.15", ".15", "1e-3".
/// @throws UserError that names the setting if it is none
double parse_number(std::string_view text, std::string_view setting);

/// @brief "a,b" -> {"a", "b"}; nothing is left out.
std::vector<std::string> split(std::string_view text, char separator);

/// @brief Prose cut behind the full stops that end its sentences.
std::vector<std::string> split_sentences(std::string_view text);

/// @brief Prints a table with the first column flush left and the others flush right.
void print_table(std::vector<std::vector<std::string>> const& rows);

/// @brief Bytes come in, whole UTF-8 characters go out.
class Utf8Stream {
 public:
  /// @return what is complete by now; broken bytes become U+FFFD
  std::string push(std::string_view bytes);

 private:
  std::string pending_;
};

}  // namespace llama
