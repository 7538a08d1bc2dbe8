#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace llama {

/// @brief How fast this machine reads memory in a stream: the least that reading bytes costs.
class Bandwidth {
 public:
  /// @param threads that read at the same time, each its share
  explicit Bandwidth(int threads, std::size_t bytes = std::size_t{256} << 20U);

  /// @brief Reads the block once. The best of all passes counts: whatever else the machine does
  /// only slows it.
  void pass();

  /// Bytes per second; 0 before the first pass.
  [[nodiscard]] double best() const { return best_; }

 private:
  int threads_;
  std::vector<std::uint64_t> block_;
  double best_ = 0.0;
  std::uint64_t sum_ = 0;
};

}  // namespace llama
