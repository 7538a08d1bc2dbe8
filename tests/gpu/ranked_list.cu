#include <kvfreeze/gpu/detail/bit_list.cuh>
#include <kvfreeze/gpu/detail/ranked_list.cuh>

#include <catch2/catch.hpp>

#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <random>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

namespace ranked_list_test {

constexpr int threads = 256;
using List = gpu::detail::RankedList<threads>;
using Bits = gpu::detail::BitList<threads>;

/// Lists the indices of flags that are not 0, twice, the second time behind the first; and behind
/// them those of bits that are set.
__global__ __attribute__((visibility("hidden"))) void list_kernel(std::uint8_t const* flags,
                                                                  std::uint32_t const* words, int n,
                                                                  std::uint32_t* list, int* count) {
  __shared__ union {
    List::Storage flags;
    Bits::Storage bits;
  } storage;

  auto const wanted = [&](int first, int some) {
    unsigned bits = 0;
    for (int j = 0; j < some; ++j) {
      bits |= flags[first + j] != 0 ? 1U << j : 0U;
    }
    return bits;
  };
  auto const push = [&](int i, int rank) { list[rank] = static_cast<std::uint32_t>(i); };
  int const once = List::for_each(n, 0, storage.flags, wanted, push);
  int const twice = List::for_each(n, once, storage.flags, wanted, push);
  int const thrice = Bits::for_each(words, n, twice, storage.bits, push);
  if (threadIdx.x == 0) {
    *count = thrice;
  }
}

}  // namespace ranked_list_test

TEST_CASE("A block's lists are in order, of flags and of bits", "[ranked_list]") {
  test::Stream const stream;
  std::mt19937 random(5);
  for (int const n : {0, 1, 3, 4, 127, 128, 513, 4095, 4096, 4097, 20001}) {
    for (unsigned const every : {1U, 2U, 50U, 5000U}) {
      std::vector<std::uint8_t> flags(static_cast<std::size_t>(n) + 1);
      std::vector<std::uint32_t> words(static_cast<std::size_t>(n / 32 + 1));
      std::vector<std::uint32_t> expected;
      for (int i = 0; i < n; ++i) {
        flags[static_cast<std::size_t>(i)] = random() % every == 0 ? 1 : 0;
        if (flags[static_cast<std::size_t>(i)] != 0) {
          words[static_cast<std::size_t>(i / 32)] |= 1U << (i % 32);
          expected.push_back(static_cast<std::uint32_t>(i));
        }
      }
      std::size_t const once = expected.size();
      expected.resize(3 * once);
      for (std::size_t i = 0; i < once; ++i) {
        expected[once + i] = expected[2 * once + i] = expected[i];
      }
      auto const device = test::upload(flags);
      auto const bits = test::upload(words);
      auto const list = test::filled(3 * static_cast<std::size_t>(n) + 1, 0xFFFFFFFFU);
      auto const count = test::filled(1, -1);
      ranked_list_test::list_kernel<<<1, ranked_list_test::threads, 0, stream.get()>>>(
          device.data(), bits.data(), n, list.data(), count.data());
      check_launch("list_kernel");
      REQUIRE(test::download(count, stream)[0] == static_cast<int>(expected.size()));
      auto found = test::download(list, stream);
      found.resize(expected.size());
      REQUIRE(found == expected);
    }
  }
}
