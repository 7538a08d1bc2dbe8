#include <kvfreeze/detail/checksum.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <vector>

using kvfreeze::detail::checksum;

TEST_CASE("every single bit counts, and so do length and seed", "[detail]") {
  std::set<std::uint64_t> seen;
  std::size_t made = 0;
  for (std::size_t const size : {0U, 1U, 7U, 8U, 9U, 31U, 32U, 33U, 100U}) {
    std::vector<std::byte> bytes(size);
    seen.insert(checksum(bytes, 0));
    seen.insert(checksum(bytes, 1));
    made += 2;
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= std::byte{1} << (bit % 8);
      seen.insert(checksum(bytes, 0));
      ++made;
      bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    }
  }
  REQUIRE(seen.size() == made);
}

TEST_CASE("swapped words are found", "[detail]") {
  std::vector<std::byte> bytes(64);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i);
  }
  std::uint64_t const sum = checksum(bytes, 0);
  for (std::size_t i = 0; i < 64; i += 8) {
    for (std::size_t j = i + 8; j < 64; j += 8) {
      std::vector<std::byte> other = bytes;
      std::swap_ranges(other.begin() + static_cast<std::ptrdiff_t>(i),
                       other.begin() + static_cast<std::ptrdiff_t>(i + 8),
                       other.begin() + static_cast<std::ptrdiff_t>(j));
      REQUIRE(checksum(other, 0) != sum);
    }
  }
}
