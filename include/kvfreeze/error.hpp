#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace kvfreeze {

/// Base of everything that the library throws. The message names the argument and the numbers.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A caller's argument is out of its range or has the wrong size. Nothing was changed.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// A sequence handle that was never given out, or whose sequence is closed.
class UnknownSequence : public InvalidArgument {
 public:
  using InvalidArgument::InvalidArgument;
};

/// A limit that the caller set (tokens, sequences, bytes) does not hold what was asked for.
class CapacityError : public Error {
 public:
  CapacityError(std::string const& message, std::size_t needed, std::size_t available)
      : Error(message), needed_(needed), available_(available) {}

  /// The least that would have worked, in the unit that the message names.
  [[nodiscard]] std::size_t needed() const noexcept { return needed_; }

  /// What there is, in the same unit.
  [[nodiscard]] std::size_t available() const noexcept { return available_; }

 private:
  std::size_t needed_;
  std::size_t available_;
};

/// The operating system refused memory.
class OutOfMemory : public Error {
 public:
  OutOfMemory(std::string const& message, std::size_t bytes) : Error(message), bytes_(bytes) {}

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t bytes_;
};

/// A storage tier failed. Rows that it was to store are still exact; rows that it was to load are
/// still frozen.
class TierError : public Error {
 public:
  using Error::Error;
};

/// A saved sequence cannot be restored: its bytes are damaged or end early, or they are of another
/// format, model or composition. Nothing was changed.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// A stream that the caller gave refused bytes: a full disk, a closed connection.
class StreamError : public Error {
 public:
  using Error::Error;
};

}  // namespace kvfreeze
