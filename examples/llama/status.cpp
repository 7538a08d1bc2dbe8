#include "status.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/ioctl.h>
#include <unistd.h>

namespace llama {

namespace {

// Terminal control sequences (ECMA-48).
constexpr std::string_view erase_below = "\x1b[J";
constexpr std::string_view erase_line = "\r\x1b[K";
constexpr std::string_view make_room_below =
    "\x1b"
    "D\x1b[A";  // scrolls at the screen's end
constexpr std::string_view save_cursor =
    "\x1b"
    "7";
constexpr std::string_view restore_cursor =
    "\x1b"
    "8";
constexpr std::string_view line_below = "\x1b[B\r";
constexpr std::string_view dim = "\x1b[2m";
constexpr std::string_view undim = "\x1b[0m";

bool is_terminal(std::FILE* stream) {
  char const* const kind = std::getenv("TERM");
  return ::isatty(::fileno(stream)) != 0 && (kind == nullptr || std::strcmp(kind, "dumb") != 0);
}

std::size_t terminal_columns() {
  ::winsize size{};
  bool const known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80U;
}

void put(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
}

/// "8.11/16.4 MB", or both units where they differ.
std::string bytes_of(std::size_t part, std::size_t whole) {
  std::string const small = format_bytes(static_cast<double>(part));
  std::string const large = format_bytes(static_cast<double>(whole));
  std::size_t const unit = small.find(' ');
  bool const same = small.substr(unit) == large.substr(large.find(' '));
  return (same ? small.substr(0, unit) : small) + "/" + large;
}

/// One line of ASCII, so that its width is its size. The usual one fits 80 columns.
std::string status_text(kvfreeze::StepReport const& report, int generated, int total,
                        double tokens_per_second) {
  kvfreeze::RowCounts const& rows = report.rows;
  auto const share = [&](std::uint64_t part) {
    auto const whole = static_cast<double>(std::max<std::uint64_t>(rows.total(), 1));
    return format_number(100.0 * static_cast<double>(part) / whole, 0) + "%";
  };
  std::string line = std::to_string(generated) + "/" + std::to_string(total) + " " +
                     format_number(tokens_per_second, 1) + " tok/s  " + share(rows.exact) +
                     " exact";
  if (rows.compact > 0) {
    line += " " + share(rows.compact) + " compact";
  }
  line += " " + share(rows.frozen) + " frozen";
  if (rows.asleep > 0) {
    line += " " + share(rows.asleep) + " asleep";
  }
  if (rows.evicted > 0) {
    line += " " + share(rows.evicted) + " evicted";
  }
  line += "  " + bytes_of(report.ledger.resident(), report.full_bytes) + "  moved " +
          format_bytes(static_cast<double>(report.moved_in_bytes + report.moved_out_bytes));
  if (report.has_logits) {
    line += "  H " + format_number(static_cast<double>(report.entropy), 2);
  }
  return line + " " + std::string(recovery_name(report.recovery));
}

}  // namespace

std::string_view recovery_name(kvfreeze::Recovery recovery) {
  switch (recovery) {
    case kvfreeze::Recovery::soft:
      return "SR";
    case kvfreeze::Recovery::window:
      return "WR";
    case kvfreeze::Recovery::full:
      return "FR";
    case kvfreeze::Recovery::rewalk:
      return "RR";
    case kvfreeze::Recovery::none:
      break;
  }
  return "-";
}

LiveText::LiveText(int total)
    : total_(total),
      text_on_terminal_(is_terminal(stdout)),
      status_on_terminal_(is_terminal(stderr)),
      colours_(status_on_terminal_ && std::getenv("NO_COLOR") == nullptr) {}

void LiveText::show(std::string_view bytes, kvfreeze::StepReport const& report, int generated,
                    double tokens_per_second) {
  write_text(characters_.push(bytes));
  if (status_on_terminal_) {
    draw(status_text(report, generated, total_, tokens_per_second));
  } else if (generated % plain_period == 0) {
    put(stderr, status_text(report, generated, total_, tokens_per_second) + "\n");
  }
}

void LiveText::show_rewind(int tokens) {
  write_text("\n[rewalk: the last " + std::to_string(tokens) + " tokens are decoded again]\n");
}

void LiveText::finish() {
  if (status_on_terminal_ && !text_on_terminal_) {
    put(stderr, erase_line);
  }
  write_text("\n");
}

void LiveText::write_text(std::string_view bytes) {
  if (text_on_terminal_ && status_on_terminal_) {
    put(stdout, erase_below);  // the old status
  }
  put(stdout, bytes);
  std::fflush(stdout);
}

void LiveText::draw(std::string const& status) {
  std::string line = status.substr(0, terminal_columns() - 1);
  if (colours_) {
    line = std::string(dim) + line + std::string(undim);
  }
  if (text_on_terminal_) {
    put(stderr, std::string(make_room_below) + std::string(save_cursor) + std::string(line_below) +
                    line + std::string(restore_cursor));
  } else {
    put(stderr, std::string(erase_line) + line);
  }
  std::fflush(stderr);
}

Progress::Progress(std::string_view what) : what_(what), on_terminal_(is_terminal(stderr)) {}

void Progress::show(double fraction) {
  double const seconds = watch_.seconds();
  int const tenths = static_cast<int>(fraction * 10.0);
  // A terminal is redrawn at most five times a second, a log gets a line for every tenth.
  if (on_terminal_ ? seconds - shown_seconds_ < 0.2 : tenths == shown_tenths_) {
    return;
  }
  shown_seconds_ = seconds;
  shown_tenths_ = tenths;
  double const left = fraction > 0.0 ? seconds / fraction - seconds : 0.0;
  std::string const line =
      what_ + ": " + format_number(100.0 * fraction, 0) + " %, " + format_duration(left) + " left";
  put(stderr, on_terminal_ ? std::string(erase_line) + line : line + "\n");
  std::fflush(stderr);
}

void Progress::finish() {
  if (on_terminal_) {
    put(stderr, erase_line);
    std::fflush(stderr);
  }
}

}  // namespace llama
