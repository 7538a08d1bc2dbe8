#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace kvfreeze::detail {

/// Spreads every bit over all others; one to one.
constexpr std::uint64_t mixed(std::uint64_t x) noexcept {
  x = (x ^ (x >> 31)) * 0x9E6C63D0876A9A35U;
  x = (x ^ (x >> 29)) * 0xC2B2AE3D27D4EB4FU;
  return x ^ (x >> 32);
}

/// @brief 64-bit checksum against damage, not against malice. Depends on length and byte order.
///
/// Four independent chains of 8-byte words, one to one in each word, so that damage within one word
/// is always found, anything else up to 2^-64 or so.
/// @complexity O(bytes)
inline std::uint64_t checksum(std::span<std::byte const> bytes, std::uint64_t seed) noexcept {
  std::uint64_t chain[4] = {seed ^ 0x2545F4914F6CDD1DU, seed ^ 0x8A5CD789635D2DFFU,
                            seed ^ 0x71374491428A2F98U, seed ^ 0xB5C0FBCFEC4D3B2FU};
  auto const step = [](std::uint64_t state, std::uint64_t word) {
    state = (state ^ word) * 0x9FB21C651E98DF25U;
    return state ^ (state >> 28);
  };
  std::byte const* data = bytes.data();
  std::size_t rest = bytes.size();
  for (; rest >= 32; rest -= 32, data += 32) {
    std::uint64_t words[4];
    std::memcpy(words, data, sizeof words);
    for (int i = 0; i < 4; ++i) {
      chain[i] = step(chain[i], words[i]);
    }
  }
  for (int i = 0; rest > 0; ++i) {
    std::size_t const taken = rest < 8 ? rest : 8;
    std::uint64_t word = 0;
    std::memcpy(&word, data, taken);
    chain[i] = step(chain[i], word);
    rest -= taken;
    data += taken;
  }
  std::uint64_t sum = mixed(seed ^ bytes.size());
  for (std::uint64_t const state : chain) {
    sum = mixed(sum ^ state);
  }
  return sum;
}

}  // namespace kvfreeze::detail
