#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llama::lab {

/// What is measured: one text for one task.
struct SubjectName {
  std::string task;     ///< one of `task_names`
  std::string variant;  ///< what a task has several of: "depth=30", "hops=2", "kind=calm"; or empty
  int context = 0;      ///< tokens of the full cache whose fraction is resident, text and answer
  std::string text;     ///< the file's name without folder
  std::string text_hash;
  std::size_t offset = 0;  ///< bytes skipped
  int piece = 0;           ///< counts stretches of the text from 0 on
  std::string parameters;  ///< whatever else determines the text: "seed=1"
};

/// A cache composition, and the sizes it is to be measured at.
struct SystemName {
  std::string label;     ///< preset with settings, as given
  std::string settings;  ///< what these and the shared options come to
  bool obeys_cap = true;
};

/// @brief The share of a 16-bit cache that may be resident; nothing: no cap, the composition's own
/// operating point.
using Fraction = std::optional<double>;

/// What all cells of a laboratory have in common.
struct Circumstances {
  std::string model;  ///< the file's name without folder
  std::string model_hash;
  std::size_t model_bytes = 0;
  std::string weights;
  int prefill_chunk = 0;
  int threads = 1;      ///< each has its work space, which counts as resident
  std::string version;  ///< of the library
};

inline constexpr std::string_view task_names[] = {"kl",       "passkey", "needles",
                                                  "tracking", "copy",    "stress"};

/// @brief "kl,passkey" -> those, each once, in the order of `task_names`.
/// @throws UserError that lists the tasks
std::vector<std::string> parse_tasks(std::string_view text);

/// @brief "own,.1,0.2" -> fractions in rising order, "own" first; each once.
/// @throws UserError for anything else than "own" or a number of (0, 1]
std::vector<Fraction> parse_fractions(std::string_view text);

/// @brief "own" or "0.2".
std::string fraction_text(Fraction const& fraction);

/// @brief The fractions that a system is measured at: its own operating point only where a cap
/// changes nothing.
std::vector<Fraction> fractions_of(SystemName const& system, std::vector<Fraction> const& asked);

/// @brief Everything that determines a cell's figures but time, as one text.
std::string cell_key(SubjectName const& subject, SystemName const& system, Fraction const& fraction,
                     Circumstances const& circumstances);

/// @brief FNV-1a over 64 bits, as 16 hexadecimal digits.
std::string hash_text(std::string_view bytes);

/// @brief "/a/b.txt" -> "b.txt".
std::string file_name(std::string_view path);

}  // namespace llama::lab
