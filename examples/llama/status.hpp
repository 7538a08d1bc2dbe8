#pragma once

#include <kvfreeze/report.hpp>

#include "text.hpp"
#include "watch.hpp"

#include <string>
#include <string_view>

namespace llama {

/// @brief "SR", "WR", "FR", "RR" or "-".
std::string_view recovery_name(kvfreeze::Recovery recovery);

/// @brief Prints generated text as it comes and keeps a status line below it.
///
/// On a terminal the status is one line that is drawn over and over; elsewhere a plain line goes
/// to stderr every `plain_period` tokens.
class LiveText {
 public:
  static constexpr int plain_period = 100;

  /// @param total tokens to come
  explicit LiveText(int total);

  /// @brief Shows a generated token. @param generated tokens so far, this one included
  void show(std::string_view bytes, kvfreeze::StepReport const& report, int generated,
            double tokens_per_second);

  /// @brief Says on stdout that the last tokens are taken back.
  void show_rewind(int tokens);

  /// @brief Removes the status line and ends the text's last line.
  void finish();

 private:
  void write_text(std::string_view bytes);
  void draw(std::string const& status);

  Utf8Stream characters_;
  int total_;
  bool text_on_terminal_;
  bool status_on_terminal_;
  bool colours_;
};

/// @brief Progress of long work, on stderr: percentage and time left.
class Progress {
 public:
  explicit Progress(std::string_view what);

  void show(double fraction);

  void finish();

 private:
  std::string what_;
  Watch watch_;
  bool on_terminal_;
  double shown_seconds_ = -1.0;
  int shown_tenths_ = 0;
};

}  // namespace llama
