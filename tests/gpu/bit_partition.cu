// Partitions that a block makes of bits: the entries, in the order, that the form that asks entry
// by entry gives.

#include <kvfreeze/gpu/detail/bit_partition.cuh>
#include <kvfreeze/gpu/detail/block_partition.cuh>

#include <catch2/catch.hpp>

#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <numeric>
#include <random>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

namespace bit_partition_test {

constexpr int threads = 128;
using Bits = gpu::detail::BitPartition<threads>;
using Flags = gpu::detail::BlockPartition<threads>;

/// Packs entries whose bits are clear, by bits and by asking for each.
__global__ __attribute__((visibility("hidden"))) void partition_kernel(std::uint32_t const* leaves,
                                                                       int n,
                                                                       std::uint32_t* by_bits,
                                                                       std::uint32_t* by_flags,
                                                                       int* kept) {
  __shared__ union {
    Bits::Storage bits;
    Flags::Storage flags;
  } storage;

  auto const swap_in = [](std::uint32_t* entries) {
    return [entries](std::uint32_t from, std::uint32_t to, int lane) {
      if (lane == 0) {
        std::uint32_t const left = entries[to];
        entries[to] = entries[from];
        entries[from] = left;
      }
    };
  };
  int const first = Bits{storage.bits}.run(n, leaves, swap_in(by_bits));
  __syncthreads();
  int const second = Flags{storage.flags}.run(
      n, [&](int i) { return (leaves[i / 32] >> (i % 32) & 1U) != 0; }, swap_in(by_flags));
  if (threadIdx.x == 0) {
    kept[0] = first;
    kept[1] = second;
  }
}

/// Each bit of n set once in `every`; bits behind them as `behind` says.
std::vector<std::uint32_t> some_bits(std::mt19937& random, int n, unsigned every, bool behind) {
  std::vector<std::uint32_t> words(static_cast<std::size_t>(n / 32 + 1), behind ? ~0U : 0U);
  for (int i = 0; i < n; ++i) {
    std::uint32_t& word = words[static_cast<std::size_t>(i / 32)];
    std::uint32_t const bit = 1U << (i % 32);
    word = random() % every == 0 ? word | bit : word & ~bit;
  }
  return words;
}

constexpr int sizes[] = {0, 1, 31, 32, 33, 127, 513, 4095, 4096, 4097, 9001};
constexpr unsigned rates[] = {1, 2, 50, 5000};

}  // namespace bit_partition_test

TEST_CASE("What bits say leaves, and the rest packs as if each entry were asked",
          "[bit_partition]") {
  test::Stream const stream;
  std::mt19937 random(4);
  for (int const n : bit_partition_test::sizes) {
    for (unsigned const every : bit_partition_test::rates) {
      std::vector<std::uint32_t> const words =
          bit_partition_test::some_bits(random, n, every, n % 2 != 0);
      std::vector<std::uint32_t> entries(static_cast<std::size_t>(n) + 1);
      std::iota(entries.begin(), entries.end(), 0U);
      auto const device = test::upload(words);
      auto const by_bits = test::upload(entries);
      auto const by_flags = test::upload(entries);
      auto const kept = test::filled(2, -1);
      bit_partition_test::partition_kernel<<<1, bit_partition_test::threads, 0, stream.get()>>>(
          device.data(), n, by_bits.data(), by_flags.data(), kept.data());
      check_launch("partition_kernel");
      auto const counts = test::download(kept, stream);
      CAPTURE(n, every);
      REQUIRE(counts[0] == counts[1]);
      auto const found = test::download(by_bits, stream);
      REQUIRE(found == test::download(by_flags, stream));
      for (int i = 0; i < n; ++i) {  // nobody who leaves is in front
        std::uint32_t const entry = found[static_cast<std::size_t>(i)];
        bool const leaves = (words[entry / 32] >> (entry % 32) & 1U) != 0;
        REQUIRE(leaves == (i >= counts[0]));
      }
    }
  }
}
