#include "bandwidth.hpp"

#include "watch.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <thread>

namespace llama {

namespace {

/// Many sums at a time, so that no addition waits for another.
std::uint64_t sum_of(std::span<std::uint64_t const> words) {
  constexpr std::size_t width = 64;
  std::array<std::uint64_t, width> sums{};
  for (std::size_t i = 0; i + width <= words.size(); i += width) {
    for (std::size_t j = 0; j < width; ++j) {
      sums[j] += words[i + j];
    }
  }
  std::uint64_t sum = 0;
  for (std::uint64_t const s : sums) {
    sum += s;
  }
  return sum;
}

}  // namespace

Bandwidth::Bandwidth(int threads, std::size_t bytes)
    : threads_(threads), block_(bytes / sizeof(std::uint64_t), 1) {}

void Bandwidth::pass() {
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(threads_));
  std::size_t const share = block_.size() / sums.size();
  Watch const watch;
  {
    std::vector<std::jthread> others;
    auto const read = [&](std::size_t i) {
      sums[i] = sum_of(std::span(block_).subspan(i * share, share));
    };
    for (std::size_t i = 1; i < sums.size(); ++i) {
      others.emplace_back(read, i);
    }
    read(0);
  }
  double const bytes = static_cast<double>(share * sums.size() * sizeof(std::uint64_t));
  best_ = std::max(best_, bytes / watch.seconds());
  for (std::uint64_t const sum : sums) {
    sum_ += sum;  // what is read is used, or the compiler would not read it
  }
}

}  // namespace llama
