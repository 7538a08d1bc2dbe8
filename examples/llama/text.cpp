#include "text.hpp"

#include "user_error.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace llama {

namespace {

/// Length of a UTF-8 character by its first byte; 0 for a byte that cannot be first.
std::size_t utf8_length(unsigned char lead) {
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return 2;
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    return 3;
  }
  return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

}  // namespace

std::string format_count(std::uint64_t n) {
  std::string digits = std::to_string(n);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

std::string format_number(double x, int decimals) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, x);
  return buffer.data();
}

std::string format_bytes(double bytes) {
  static constexpr std::array units{"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < units.size()) {
    bytes /= 1000.0;
    ++unit;
  }
  int const decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return format_number(bytes, decimals) + " " + units[unit];
}

std::string format_percent(double fraction) { return format_number(100.0 * fraction, 1) + " %"; }

std::string format_duration(double seconds) {
  auto const whole = static_cast<long>(std::lround(std::max(seconds, 0.0)));
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%ld:%02ld", whole / 60, whole % 60);
  return buffer.data();
}

std::string format_small(double x) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.3g", x);
  return buffer.data();
}

std::string format_range(double low, double high, std::string (*format)(double)) {
  return std::isnan(low) ? "-" : format(low) + "-" + format(high);
}

std::string read_text_file(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    throw UserError("cannot read the file '" + path + "'");
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_text_file(std::string const& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  if (!file.flush()) {
    throw UserError("cannot write the file '" + path + "'");
  }
}

void check_writable(std::string const& path) {
  bool const was_there = std::filesystem::exists(path);
  std::ofstream const file(path, std::ios::app);
  if (!file) {
    throw UserError("cannot write the file '" + path + "'");
  }
  if (!was_there) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
}

std::vector<int> parse_list(std::string_view text, std::string_view option, int least, int most) {
  std::vector<int> values;
  while (true) {
    std::size_t const comma = text.find(',');
    std::string_view const item = text.substr(0, comma);
    int value = 0;
    auto const [end, status] = std::from_chars(item.data(), item.data() + item.size(), value);
    if (status != std::errc{} || end != item.data() + item.size() || value < least ||
        value > most) {
      throw UserError(std::string(option) + ": '" + std::string(item) +
                      "' is not a whole number in [" + std::to_string(least) + ", " +
                      std::to_string(most) + "]");
    }
    values.push_back(value);
    if (comma == std::string_view::npos) {
      return values;
    }
    text.remove_prefix(comma + 1);
  }
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> items;
  while (true) {
    std::size_t const end = text.find(separator);
    items.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return items;
    }
    text.remove_prefix(end + 1);
  }
}

double parse_number(std::string_view text, std::string_view setting) {
  double value = 0.0;
  auto const [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    throw UserError(std::string(setting) + ": '" + std::string(text) + "' is not a number");
  }
  return value;
}

std::vector<NamedSettings> parse_names(std::string_view text, std::string_view option) {
  std::vector<NamedSettings> names;
  auto const add_setting = [&](std::string const& item) {
    std::size_t const equals = item.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == item.size()) {
      throw UserError(std::string(option) + ": '" + item + "' is not of the form setting=value");
    }
    names.back().settings.emplace_back(item.substr(0, equals), item.substr(equals + 1));
  };
  for (std::string const& group : split(text, ';')) {
    bool first = true;  // of its group
    for (std::string const& item : split(group, ',')) {
      std::size_t const colon = item.find(':');
      bool const is_setting =
          !first && colon == std::string::npos && item.find('=') != std::string::npos;
      if (is_setting) {
        add_setting(item);
        names.back().text += "," + item;
      } else {
        names.push_back({item, item.substr(0, colon), {}});
        if (colon != std::string::npos) {
          add_setting(item.substr(colon + 1));
        }
      }
      first = false;
    }
  }
  return names;
}

std::vector<std::string> split_sentences(std::string_view text) {
  std::vector<std::string> sentences;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto const is_blank = [&](std::size_t at) { return text[at] == ' ' || text[at] == '\n'; };
    // A letter before the full stop: neither a number nor an abbreviation like "e.g." ends here.
    bool const ends = i + 1 < text.size() && i > 1 && text[i] == '.' && is_blank(i + 1) &&
                      text[i - 1] >= 'a' && text[i - 1] <= 'z' && text[i - 2] != '.';
    if (ends) {
      sentences.emplace_back(text.substr(begin, i + 2 - begin));
      begin = i + 2;
      ++i;
    }
  }
  if (begin < text.size()) {
    sentences.emplace_back(text.substr(begin));
  }
  return sentences;
}

void print_table(std::vector<std::vector<std::string>> const& rows) {
  // Columns are as wide as their longest cell, counted in characters.
  auto const width = [](std::string const& cell) {
    return static_cast<std::size_t>(
        std::count_if(cell.begin(), cell.end(), [](char c) { return !is_continuation(c); }));
  };
  std::vector<std::size_t> widths;
  for (auto const& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width(row[i]));
    }
  }
  for (auto const& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      std::string const padding(widths[i] - width(row[i]), ' ');
      line += i == 0 ? row[i] + padding : "  " + padding + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
  std::fflush(stdout);
}

std::string Utf8Stream::push(std::string_view bytes) {
  static constexpr std::string_view replacement = "\xEF\xBF\xBD";
  pending_ += bytes;
  std::string out;
  std::size_t i = 0;
  while (i < pending_.size()) {
    std::size_t const length = utf8_length(static_cast<unsigned char>(pending_[i]));
    std::size_t have = 1;
    while (have < length && i + have < pending_.size() && is_continuation(pending_[i + have])) {
      ++have;
    }
    if (have == length) {
      out.append(pending_, i, length);
    } else if (length > 0 && i + have == pending_.size()) {
      break;  // the rest of this character is still to come
    } else {
      out += replacement;
    }
    i += have;
  }
  pending_.erase(0, i);
  return out;
}

}  // namespace llama
