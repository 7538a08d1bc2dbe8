#pragma once

/// @file
/// @brief Segments as tests of primitives want them: empty, tiny, odd, around every limit, long.

#include <kvfreeze/gpu/segments.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <span>
#include <vector>

namespace kvfreeze::gpu::test {

/// Lengths around the tiles and limits of the kernels; two long ones side by side, short ones
/// between them.
inline std::vector<std::uint32_t> many_lengths() {
  return {0,     1,     2, 3,     5,     0,     31,    33, 4093,   4096,  4097, 8191, 8193,
          16384, 16385, 0, 32765, 32768, 32769, 40001, 7,  100003, 65537, 0,    1,    300};
}

/// Offsets of segments of these lengths, the first at `begin`.
inline std::vector<std::uint32_t> offsets_of(std::vector<std::uint32_t> const& lengths,
                                             std::uint32_t begin) {
  std::vector<std::uint32_t> offsets{begin};
  for (std::uint32_t const length : lengths) {
    offsets.push_back(offsets.back() + length);
  }
  return offsets;
}

/// Index of the first element that differs, -1 if none does: a failing test that printed arrays
/// would not end.
template <class T>
std::ptrdiff_t difference(std::vector<T> const& a, std::vector<T> const& b) {
  auto const found = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return found.first == a.end() && found.second == b.end() ? -1 : found.first - a.begin();
}

/// What the host marks.
struct Marked {
  std::vector<std::uint8_t> selected;
  std::vector<std::uint32_t> counts;
  std::uint32_t total = 0;
};

/// @brief The host's marks, segment by segment; what is outside of them stays 9.
/// @param mark mark(values, offsets, s, selected): marks one whole segment, the s-th; returns how
///   many it marked
template <class T, class Mark>
Marked marked_on_host(std::vector<T> const& values, std::vector<std::uint32_t> const& offsets,
                      Mark const& mark) {
  Marked answer;
  answer.selected.assign(values.size(), 9);
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    std::size_t const size = offsets[s + 1] - offsets[s];
    std::vector<std::uint32_t> const whole{0, static_cast<std::uint32_t>(size)};
    auto const count = mark(std::span<T const>(values).subspan(offsets[s], size), whole, s,
                            std::span(answer.selected).subspan(offsets[s], size));
    answer.counts.push_back(static_cast<std::uint32_t>(count));
    answer.total += answer.counts.back();
  }
  return answer;
}

/// Bytes that a primitive has to touch of those that 32-byte sectors moved.
inline double useful(cudasimStats const& stats, std::size_t bytes) {
  auto const sectors = static_cast<double>(stats.global_load_sectors + stats.global_store_sectors);
  return static_cast<double>(bytes) / (32.0 * sectors);
}

/// A vector on the device that begins `skew` elements behind an aligned address.
template <class T>
class Skewed {
 public:
  Skewed(std::vector<T> const& values, std::size_t skew) : skew_(skew) {
    std::vector<T> padded(skew);
    padded.insert(padded.end(), values.begin(), values.end());
    memory_ = upload(padded);
  }

  [[nodiscard]] Span<T> span() const { return memory_.span().subspan(skew_); }

  [[nodiscard]] std::vector<T> download(Stream const& stream) const {
    auto padded = test::download(memory_, stream);
    return {padded.begin() + static_cast<std::ptrdiff_t>(skew_), padded.end()};
  }

 private:
  DeviceArray<T> memory_;
  std::size_t skew_;
};

}  // namespace kvfreeze::gpu::test
