#include "grid.hpp"

#include "../text.hpp"
#include "../user_error.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace llama::lab {

std::vector<std::string> parse_tasks(std::string_view text) {
  std::vector<std::string> const asked = split(text, ',');
  for (std::string const& task : asked) {
    if (std::find(std::begin(task_names), std::end(task_names), task) == std::end(task_names)) {
      std::string known;
      for (std::string_view const name : task_names) {
        known += (known.empty() ? "" : ", ") + std::string(name);
      }
      throw UserError("--tasks: unknown task '" + task + "'; there are " + known);
    }
  }
  std::vector<std::string> tasks;
  for (std::string_view const name : task_names) {
    if (std::find(asked.begin(), asked.end(), name) != asked.end()) {
      tasks.emplace_back(name);
    }
  }
  return tasks;
}

std::vector<Fraction> parse_fractions(std::string_view text) {
  std::vector<Fraction> fractions;
  for (std::string const& item : split(text, ',')) {
    if (item == "own") {
      fractions.emplace_back();
      continue;
    }
    double const value = parse_number(item, "--resident");
    if (!(value > 0.0 && value <= 1.0)) {
      throw UserError("--resident: '" + item + "' is not a fraction in (0, 1], nor 'own'");
    }
    fractions.emplace_back(value);
  }
  std::sort(fractions.begin(), fractions.end());  // nothing comes before all numbers
  fractions.erase(std::unique(fractions.begin(), fractions.end()), fractions.end());
  return fractions;
}

std::string fraction_text(Fraction const& fraction) {
  if (!fraction) {
    return "own";
  }
  std::array<char, 32> digits{};
  auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), *fraction).ptr;
  return {digits.data(), end};
}

std::vector<Fraction> fractions_of(SystemName const& system, std::vector<Fraction> const& asked) {
  return system.obeys_cap ? asked : std::vector<Fraction>{Fraction()};
}

std::string cell_key(SubjectName const& subject, SystemName const& system, Fraction const& fraction,
                     Circumstances const& c) {
  std::pair<std::string_view, std::string> const parts[] = {
      {"task", subject.task},
      {"variant", subject.variant},
      {"context", std::to_string(subject.context)},
      {"text", subject.text + "#" + subject.text_hash},
      {"offset", std::to_string(subject.offset)},
      {"piece", std::to_string(subject.piece)},
      {"parameters", subject.parameters},
      {"preset", system.label},
      {"settings", system.settings},
      {"resident", fraction_text(fraction)},
      {"model", c.model + "#" + c.model_hash + "#" + std::to_string(c.model_bytes)},
      {"weights", c.weights},
      {"chunk", std::to_string(c.prefill_chunk)},
      {"threads", std::to_string(c.threads)},
      {"version", c.version},
  };
  std::string key;
  for (auto const& [name, value] : parts) {
    key += (key.empty() ? "" : "|") + std::string(name) + "=" + value;
  }
  return key;
}

std::string hash_text(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (char const c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  }
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string result(16, '0');
  for (std::size_t i = 16; i > 0; --i, hash >>= 4U) {
    result[i - 1] = digits[hash & 15U];
  }
  return result;
}

std::string file_name(std::string_view path) {
  std::size_t const slash = path.find_last_of('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

}  // namespace llama::lab
