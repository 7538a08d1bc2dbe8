#pragma once

#include "../json.hpp"
#include "json_object.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace llama::lab {

/// Of the results file. A change of what its lines mean needs another one.
inline constexpr int results_version = 1;

/// What a results file says.
struct Results {
  std::vector<JsonObject> cells;
  std::size_t whole_bytes = 0;  ///< up to the last newline
  std::size_t rest_bytes = 0;   ///< of a last line without newline: a write that was cut short

  [[nodiscard]] bool has(std::string_view key) const;
};

/// @brief Reads a results file: a first line that names the format, then one flat JSON object a
/// line. A last line without newline is left out.
/// @param path for messages
/// @throws UserError that names the line which cannot be read, or the version of another format
Results parse_results(std::string_view text, std::string const& path);

/// @brief The first line, without the newline.
std::string results_header();

/// @brief The results file, open for appending. Every line reaches the disk before `append`
/// returns, in one write, so that whenever the program is killed only the last line can be broken.
class ResultsFile {
 public:
  /// @brief Opens or makes the file, drops a broken last line, and keeps others from writing.
  /// @throws UserError if the file cannot be read or written, or another program writes it
  explicit ResultsFile(std::string path);
  ResultsFile(ResultsFile const&) = delete;
  ResultsFile& operator=(ResultsFile const&) = delete;
  ~ResultsFile();

  [[nodiscard]] Results const& results() const { return results_; }

  /// @brief Adds a cell; it must have a "key". @throws UserError if it cannot be written
  void append(Json const& cell);

 private:
  void write_line(std::string const& line) const;
  [[noreturn]] void fail(std::string const& what) const;

  std::string path_;
  int file_ = -1;
  Results results_;
};

}  // namespace llama::lab
