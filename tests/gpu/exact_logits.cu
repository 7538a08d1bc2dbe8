#include <kvfreeze/gpu/attention_weight.cuh>
#include <kvfreeze/gpu/exact_logits.cuh>
#include <kvfreeze/host/kernels/exp2.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <gpu/attention_rows.cuh>
#include <gpu/device.cuh>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using test::RandomLanes;

__global__ void weights_kernel(Span<float const> logits, Span<float const> lse, Span<float> out) {
  unsigned const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < out.size()) {
    out[i] = attention_weight(logits[i], lse[i]);
  }
}

template <Element T>
struct Logits {
  DecodeShape shape;
  DeviceArray<AttentionLane<T>> descriptors;
  DeviceArray<std::uint32_t> counts;

  Logits(RandomLanes<T>& lanes, int blocks, float octaves) {
    shape.group = lanes.group;
    shape.head_dim = lanes.dim;
    shape.octaves = octaves;
    shape.blocks = blocks;
    descriptors = test::upload(lanes.template descriptors<AttentionLane<T>>());
    counts = test::upload(lanes.counts());
  }

  void launch(RandomLanes<T> const& lanes, ::cuda::stream_ref stream) const {
    exact_logits_async(AttentionLanes<T>{descriptors.span(), counts.span()}, shape, lanes.device_q,
                       stream);
  }
};

/// Logits that are not the host's to the bit, or were written where there is no row.
template <Element T>
int wrong_logits(RandomLanes<T> const& lanes, test::Stream const& stream, float octaves) {
  auto const logits = test::download(lanes.logits, stream);
  int wrong = 0;
  auto const group = static_cast<std::size_t>(lanes.group);
  for (std::size_t lane = 0; lane < lanes.lanes.size(); ++lane) {
    std::vector<float> expected(group * lanes.stride, -7.0F);
    for (std::size_t head = 0; head < group; ++head) {
      auto const logit = lanes.expected_logits(lane, static_cast<int>(head), octaves);
      std::copy(logit.begin(), logit.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(head * lanes.stride));
    }
    float const* const got = logits.data() + lane * group * lanes.stride;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      wrong +=
          std::bit_cast<std::uint32_t>(got[i]) != std::bit_cast<std::uint32_t>(expected[i]) ? 1 : 0;
    }
  }
  return wrong;
}

template <Element T>
void check_logits(int group, int dim, int page_tokens, PageOrder order, int blocks, float sigma) {
  CAPTURE(sizeof(T), group, dim, page_tokens, blocks);
  test::Stream const stream;
  RandomLanes<T> lanes({0, 1, 15, 16, 17, 1000, 700, 0, 9}, group, dim, page_tokens, order,
                       static_cast<unsigned>(group + dim), sigma);
  Logits<T> const call(lanes, blocks, 1.3F);
  call.launch(lanes, stream);
  CHECK(wrong_logits(lanes, stream, 1.3F) == 0);
}

}  // namespace

TEST_CASE("Logits are the host's to the bit", "[logits]") {
  for (int dim = 8; dim <= 256; dim += 8) {
    check_logits<Half>(dim % 3 + 1, dim, 16, PageOrder::nhd, 0, 1.0F);
  }
  check_logits<Half>(8, 128, 1, PageOrder::hnd, 3, 100.0F);
  check_logits<Half>(33, 64, 16, PageOrder::nhd, 50, 1.0F);
  check_logits<BFloat16>(4, 128, 16, PageOrder::hnd, 5, 1.0F);
  check_logits<BFloat16>(64, 72, 16, PageOrder::nhd, 5, 1.0F);
  check_logits<float>(1, 64, 16, PageOrder::nhd, 2, 1.0F);
  check_logits<float>(6, 120, 2, PageOrder::nhd, 9, 1.0F);
  check_logits<float>(17, 256, 16, PageOrder::nhd, 1, 1.0F);
}

TEST_CASE("Logits of numbers at the ends of their range are the host's", "[logits]") {
  // Denormal halves, signed zeros, products that underflow to either zero, and infinities.
  test::Stream const stream;
  auto const adversarial = [&](auto element, std::vector<float> const& keys, float q_scale) {
    using T = decltype(element);
    for (int const dim : {8, 24, 40, 64, 96}) {
      RandomLanes<T> lanes({70}, 4, dim, 1, PageOrder::nhd, 12);
      std::mt19937 random(3);
      for (T& x : lanes.elements) {
        x = from_float<T>(keys[random() % keys.size()]);
      }
      for (float& x : lanes.q) {
        x = (random() % 5 == 0 ? 0.0F : x * q_scale) * (random() % 2 == 0 ? 1.0F : -1.0F);
      }
      lanes.upload_all();
      Logits<T> const call(lanes, 0, 1.0F);
      call.launch(lanes, stream);
      CAPTURE(sizeof(T), dim);
      CHECK(wrong_logits(lanes, stream, 1.0F) == 0);
    }
  };
  adversarial(Half{}, {0.0F, -0.0F, 6e-8F, -5.9e-5F, 65504.0F, -1.0F, 3e-6F}, 1e-39F);
  adversarial(BFloat16{}, {1e-38F, -1e-39F, -0.0F, 3e38F, 1e-20F}, 1e-8F);
  adversarial(float{}, {1e-44F, -1e-40F, 0.0F, -0.0F, 1e-30F}, 1e-7F);
  adversarial(float{}, {1e-44F, -0.0F}, 1e-30F);
}

TEST_CASE("Zeros have the host's sign", "[logits]") {
  // All products underflow to -0. A last half block adds +0 to half of the chains, whole blocks and
  // the end of a row add nothing.
  test::Stream const stream;
  int negative = 0;
  for (int const dim : {8, 16, 24, 32, 48, 56, 64, 72, 80, 128}) {
    RandomLanes<float> lanes({11}, 3, dim, 4, PageOrder::nhd, 18);
    std::fill(lanes.elements.begin(), lanes.elements.end(), -1e-30F);
    std::fill(lanes.q.begin(), lanes.q.end(), 1e-30F);
    lanes.upload_all();
    Logits<float> const call(lanes, 0, 1.0F);
    call.launch(lanes, stream);
    CAPTURE(dim);
    CHECK(wrong_logits(lanes, stream, 1.0F) == 0);
    negative += std::signbit(lanes.expected_logits(0, 0, 1.0F)[0]) ? 1 : 0;
  }
  CHECK(negative == 6);  // the multiples of 16
}

TEST_CASE("Lanes without a place for logits are left out, rows may grow in a graph", "[logits]") {
  test::Stream const stream;
  RandomLanes<Half> lanes({300, 40, 200}, 4, 128, 16, PageOrder::nhd, 13);
  Logits<Half> call(lanes, 0, 1.0F);
  auto descriptors = lanes.descriptors<AttentionLane<Half>>();
  descriptors[1].logits = nullptr;
  call.descriptors = test::upload(descriptors);
  test::Graph const graph(stream, [&] { call.launch(lanes, stream); });
  lanes.lanes[1].rows = 0;  // what is expected
  for (int const rows : {8, 300}) {
    lanes.lanes[0].rows = rows;
    std::vector<std::uint32_t> const counts{static_cast<std::uint32_t>(rows), 40, 200};
    check(cudaMemcpyAsync(call.counts.data(), counts.data(), call.counts.size_bytes(),
                          cudaMemcpyHostToDevice, stream.get()),
          "counts");
    graph.launch(stream);
    stream.wait();
    CHECK(wrong_logits(lanes, stream, 1.0F) == 0);
  }
}

TEST_CASE("A list of granules stands for their rows", "[logits]") {
  test::Stream const stream;
  for (std::uint32_t const shift : {2U, 4U}) {
    CAPTURE(shift);
    RandomLanes<Half> lanes({5, 5, 5, 701}, 3, 64, 16, PageOrder::nhd, 19);
    std::vector<std::uint32_t> granules((701U >> shift) + 1U);
    std::iota(granules.begin(), granules.end(), 0U);
    std::shuffle(granules.begin(), granules.end(), std::mt19937(20));
    PagedRows<Half> rows = lanes.host_rows(3);  // a list within a paged lane
    rows.slots = granules.data();
    rows.slot_shift = shift;
    for (std::uint32_t row = 0; row < 701; ++row) {
      lanes.lanes[3].places[row] = rows.place(row);
    }
    Logits<Half> call(lanes, 0, 1.0F);
    auto const list = test::upload(granules);
    auto descriptors = lanes.descriptors<AttentionLane<Half>>();
    descriptors[3].rows.slots = list.data();
    descriptors[3].rows.slot_shift = shift;
    call.descriptors = test::upload(descriptors);
    call.launch(lanes, stream);
    CHECK(wrong_logits(lanes, stream, 1.0F) == 0);
  }
}

TEST_CASE("What logits ask of the device", "[logits]") {
  test::Stream const stream;
  RandomLanes<Half> lanes({16384, 4096, 777, 8192}, 4, 128, 16, PageOrder::nhd, 14);
  Logits<Half> const call(lanes, 0, 1.0F);
  if (auto const stats = test::count(stream, [&] { call.launch(lanes, stream); })) {
    double const rows = 16384 + 4096 + 777 + 8192;
    double const row_bytes = 256;
    CHECK(stats->kernel_launches == 1);
    CHECK(stats->host_syncs == 0);
    CHECK(stats->mallocs + stats->async_mallocs + stats->host_allocs == 0);
    CHECK(test::sector_efficiency(*stats) >= 0.9);
    CHECK(32.0 * static_cast<double>(stats->global_load_sectors) <= 1.1 * rows * row_bytes);
    CHECK(static_cast<double>(stats->global_store_bytes) == 4.0 * 4.0 * rows);
    WARN(static_cast<double>(stats->global_load_sectors) * 32.0 / rows
         << " bytes read a row of 256, " << static_cast<double>(stats->warp_instructions) / rows
         << " warp instructions a row, efficiency " << test::sector_efficiency(*stats));
  }
}

TEST_CASE("Weights after attention are the host's", "[logits]") {
  test::Stream const stream;
  auto logits = test::normal_numbers(5000, 15, 40.0F);
  auto lse = test::normal_numbers(logits.size(), 16, 20.0F);
  logits[7] = -test::infinity;
  logits[8] = -test::infinity;
  lse[8] = -test::infinity;
  auto const device_logits = test::upload(logits);
  auto const device_lse = test::upload(lse);
  DeviceArray<float> const weights(logits.size());
  weights_kernel<<<20, 256, 0, stream.get()>>>(device_logits, device_lse, weights);
  check_launch("weights_kernel");
  auto const got = test::download(weights, stream);
  CHECK(got[7] == 0.0F);
  CHECK(got[8] == 0.0F);
  for (std::size_t i = 9; i < got.size(); ++i) {
    float const volatile nats = lse[i] * 1.44269504088896340736F;  // not contracted
    REQUIRE(got[i] == host::exp2(std::min(logits[i] - nats, 0.0F)));
  }
}

TEST_CASE("Logits are refused where sizes do not fit", "[logits]") {
  test::Stream const stream;
  RandomLanes<Half> lanes({20}, 4, 64, 16, PageOrder::nhd, 17);
  Logits<Half> call(lanes, 0, 1.0F);
  call.shape.head_dim = 128;
  CHECK_THROWS_AS(call.launch(lanes, stream), InvalidArgument);
  call.shape.head_dim = 63;
  CHECK_THROWS_AS(call.launch(lanes, stream), InvalidArgument);
}
