#include "results.hpp"

#include "../text.hpp"
#include "../user_error.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

namespace llama::lab {

namespace {

constexpr std::string_view format_name = "kvfreeze lab results";

[[noreturn]] void reject(std::string const& path, std::size_t line, std::string const& why) {
  throw UserError("'" + path + "' line " + std::to_string(line) + ": " + why +
                  ". Nothing was changed; to begin anew, move the file away: mv '" + path + "' '" +
                  path + ".old'");
}

void check_header(JsonObject const& header, std::string const& path) {
  if (!header.has("format") || header.text("format") != format_name) {
    reject(path, 1, "this is no file of " + std::string(format_name));
  }
  int const version = header.whole("version");
  if (version != results_version) {
    reject(path, 1,
           "the file has version " + std::to_string(version) + ", this program writes version " +
               std::to_string(results_version));
  }
}

}  // namespace

bool Results::has(std::string_view key) const {
  return std::any_of(cells.begin(), cells.end(),
                     [&](JsonObject const& cell) { return cell.text("key") == key; });
}

Results parse_results(std::string_view text, std::string const& path) {
  Results results;
  std::size_t line = 1;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos;
       end = text.find('\n', results.whole_bytes), ++line) {
    try {
      JsonObject object =
          JsonObject::parse(text.substr(results.whole_bytes, end - results.whole_bytes));
      if (line == 1) {
        check_header(object, path);
      } else {
        for (char const* const name : {"key", "task", "status"}) {
          static_cast<void>(object.text(name));
        }
        results.cells.push_back(std::move(object));
      }
    } catch (JsonError const& error) {
      reject(path, line, error.what());
    }
    results.whole_bytes = end + 1;
  }
  results.rest_bytes = text.size() - results.whole_bytes;
  return results;
}

std::string results_header() {
  Json header;
  header.put("format", format_name);
  header.put("version", results_version);
  return header.line();
}

ResultsFile::ResultsFile(std::string path) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) {
    fail("cannot be opened");
  }
  try {
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      throw UserError("'" + path_ + "' is being written by another program");
    }
    results_ = parse_results(read_text_file(path_), path_);
    auto const whole = static_cast<off_t>(results_.whole_bytes);
    if (results_.rest_bytes > 0 && ::ftruncate(file_, whole) != 0) {
      fail("cannot be shortened");
    }
    if (results_.whole_bytes == 0) {
      write_line(results_header());
    }
  } catch (...) {
    ::close(file_);
    throw;
  }
}

ResultsFile::~ResultsFile() { ::close(file_); }

void ResultsFile::append(Json const& cell) {
  std::string const line = cell.line();
  JsonObject object = JsonObject::parse(line);
  static_cast<void>(object.text("key"));
  write_line(line);
  results_.cells.push_back(std::move(object));
}

void ResultsFile::write_line(std::string const& line) const {
  std::string const text = line + "\n";
  std::string_view rest = text;
  while (!rest.empty()) {
    ssize_t const written = ::write(file_, rest.data(), rest.size());
    if (written < 0 && errno != EINTR) {
      fail("cannot be written");
    }
    rest.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
  }
  if (::fsync(file_) != 0 && errno != EINVAL) {  // some file systems have no such call
    fail("cannot be written");
  }
}

void ResultsFile::fail(std::string const& what) const {
  throw UserError("'" + path_ + "' " + what + ": " + std::strerror(errno));
}

}  // namespace llama::lab
