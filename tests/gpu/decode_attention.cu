#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/host/kernels/attention.hpp>

#include <catch2/catch.hpp>

#include <cstdint>
#include <gpu/attention_rows.cuh>
#include <gpu/device.cuh>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using test::ExactAttention;
using test::RandomLanes;

constexpr float octaves = 0.9F;

/// One launch over all lanes.
template <Element T>
struct Attention {
  DecodeShape shape;
  DeviceArray<AttentionLane<T>> descriptors;
  DeviceArray<std::uint32_t> counts;
  DeviceArray<float> out;
  DeviceArray<float> lse;
  DeviceArray<std::uint32_t> tickets;
  Workspace workspace;

  Attention(RandomLanes<T>& lanes, int blocks) {
    shape.group = lanes.group;
    shape.head_dim = lanes.dim;
    shape.octaves = octaves;
    shape.blocks = blocks;
    descriptors = test::upload(lanes.template descriptors<AttentionLane<T>>());
    counts = test::upload(lanes.counts());
    auto const heads = lanes.lanes.size() * static_cast<std::size_t>(lanes.group);
    out = test::filled(heads * static_cast<std::size_t>(lanes.dim), -9.0F);
    lse = test::filled(heads, -9.0F);
    tickets = test::filled(decode_attention_tickets(shape, lanes.lanes.size()), std::uint32_t{0});
    workspace =
        Workspace(decode_attention_workspace_bytes<AttentionLanes<T>>(shape, lanes.lanes.size()));
  }

  void launch(RandomLanes<T> const& lanes, ::cuda::stream_ref stream) {
    AttentionLanes<T> const view{descriptors.span(), counts.span()};
    decode_attention_async(view, shape, lanes.device_q, out, lse, tickets, workspace, stream);
  }
};

/// Largest error of all heads in units of what is promised, and how many logits are not the host's
/// to the bit.
struct Errors {
  double worst = 0.0;
  int logits = 0;
  int tickets = 0;
};

template <Element T>
Errors errors_of(RandomLanes<T> const& lanes, Attention<T> const& attention,
                 test::Stream const& stream) {
  auto const out = test::download(attention.out, stream);
  auto const lse = test::download(attention.lse, stream);
  auto const logits = test::download(lanes.logits, stream);
  Errors errors;
  auto const dim = static_cast<std::size_t>(lanes.dim);
  for (std::size_t lane = 0; lane < lanes.lanes.size(); ++lane) {
    for (int head = 0; head < lanes.group; ++head) {
      auto const at = lane * static_cast<std::size_t>(lanes.group) + static_cast<std::size_t>(head);
      auto const expected = lanes.expected_logits(lane, head, octaves);
      ExactAttention exact(lanes.dim);
      for (std::size_t row = 0; row < lanes.stride; ++row) {
        float const logit = logits[at * lanes.stride + row];
        bool const here = row < expected.size();
        errors.logits += std::bit_cast<std::uint32_t>(logit) !=
                                 std::bit_cast<std::uint32_t>(here ? expected[row] : -7.0F)
                             ? 1
                             : 0;
        if (here) {
          T const* const v = lanes.v(lane, static_cast<int>(row));
          exact.add(static_cast<double>(expected[row]),
                    [&](std::size_t d) { return to_float(v[d]); });
        }
      }
      errors.worst = std::max(errors.worst,
                              test::worst_error(exact, out.data() + at * dim, lanes.dim, lse[at]));
    }
  }
  for (std::uint32_t const ticket : test::download(attention.tickets, stream)) {
    errors.tickets += ticket == 0 ? 0 : 1;
  }
  return errors;
}

template <Element T>
void check_batch(int group, int dim, int page_tokens, PageOrder order, int blocks) {
  CAPTURE(sizeof(T), group, dim, page_tokens, blocks);
  test::Stream const stream;
  RandomLanes<T> lanes({0, 1, 15, 16, 17, 1000, 3000, 0, 9}, group, dim, page_tokens, order,
                       static_cast<unsigned>(group + dim));
  Attention<T> attention(lanes, blocks);
  attention.launch(lanes, stream);
  Errors const errors = errors_of(lanes, attention, stream);
  CHECK(errors.worst <= 1.0);
  CHECK(errors.logits == 0);
  CHECK(errors.tickets == 0);
  auto const first = test::download(attention.out, stream);
  attention.launch(lanes, stream);
  CHECK(test::download(attention.out, stream) == first);
}

}  // namespace

TEST_CASE("Lanes of all lengths, lists with gaps, pages, heads of all sizes", "[attention]") {
  check_batch<Half>(4, 128, 16, PageOrder::nhd, 0);
  check_batch<Half>(3, 64, 1, PageOrder::nhd, 61);
  check_batch<Half>(8, 96, 4, PageOrder::hnd, 7);
  check_batch<Half>(1, 256, 16, PageOrder::hnd, 1);
  check_batch<Half>(2, 8, 1, PageOrder::hnd, 3);
  check_batch<Half>(33, 128, 16, PageOrder::nhd, 0);  // two passes
  check_batch<BFloat16>(8, 128, 16, PageOrder::hnd, 5);
  check_batch<BFloat16>(5, 72, 2, PageOrder::nhd, 40);
  check_batch<BFloat16>(16, 256, 16, PageOrder::nhd, 4);
  check_batch<float>(1, 64, 16, PageOrder::nhd, 9);
  check_batch<float>(4, 128, 1, PageOrder::nhd, 0);
  check_batch<float>(9, 256, 8, PageOrder::hnd, 13);  // two passes
  check_batch<float>(7, 104, 16, PageOrder::nhd, 200);
}

TEST_CASE("A long lane among short ones, and more lanes than threads", "[attention]") {
  test::Stream const stream;
  std::vector<int> counts(301, 2);
  counts[77] = 5000;
  counts[300] = 40;
  RandomLanes<Half> lanes(counts, 4, 64, 16, PageOrder::nhd, 5);
  Attention<Half> attention(lanes, 64);
  attention.launch(lanes, stream);
  Errors const errors = errors_of(lanes, attention, stream);
  CHECK(errors.worst <= 1.0);
  CHECK(errors.logits == 0);
}

TEST_CASE("The host's attention over the same blocks", "[attention]") {
  test::Stream const stream;
  constexpr int dim = 128;
  constexpr int group = 4;
  RandomLanes<BFloat16> lanes({700, 700}, group, dim, 16, PageOrder::nhd, 6);
  Attention<BFloat16> attention(lanes, 5);
  attention.launch(lanes, stream);
  auto const out = test::download(attention.out, stream);
  auto const lse = test::download(attention.lse, stream);
  for (std::size_t lane = 0; lane < 2; ++lane) {
    host::RowBlocks<BFloat16> blocks;
    blocks.base = reinterpret_cast<std::byte const*>(lanes.elements.data());
    blocks.block_bytes = lanes.pool.page_stride() * sizeof(BFloat16);
    blocks.row_elements = lanes.pool.heads * dim;
    blocks.offset = lanes.lanes[lane].head * dim;
    std::vector<float> q;
    for (int head = 0; head < group; ++head) {
      auto const part = lanes.query(lane, head, octaves);
      q.insert(q.end(), part.begin(), part.end());
    }
    std::vector<float> max(group), sum(group), expected(group * dim), expected_lse(group);
    host::OnlineSoftmax const state{group, dim, max.data(), sum.data(), expected.data()};
    state.reset();
    host::kernels::TileRows<BFloat16> tile;  // host::attend for these heads and this dim alone
    for (int first = 0; first < 700; first += host::tile_rows) {
      int const rows = std::min(host::tile_rows, 700 - first);
      tile.gather(blocks, lanes.lanes[lane].places.data(), first, rows);
      host::kernels::attend_rows<group, dim>(tile, rows, q.data(), state, 0, nullptr, 0,
                                             [](int) {});
    }
    state.finish(expected.data(), expected_lse.data());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      REQUIRE(out[lane * expected.size() + i] == Approx(expected[i]).margin(4e-6));
    }
    for (std::size_t h = 0; h < group; ++h) {
      REQUIRE(lse[lane * group + h] == Approx(expected_lse[h]).epsilon(4e-6));
    }
  }
}

TEST_CASE("Infinitely bad rows weigh nothing, huge logits do not overflow", "[attention]") {
  test::Stream const stream;
  constexpr int dim = 64;
  RandomLanes<Half> lanes({40, 100, 17}, 3, dim, 4, PageOrder::nhd, 8, 0.5F);
  auto const spoil = [&](std::size_t lane, int row) {
    const_cast<Half*>(lanes.k(lane, row))[5] = from_float<Half>(-test::infinity);
  };
  for (int row = 0; row < 40; ++row) {
    spoil(0, row);  // no row is left
  }
  for (int row = 0; row < 100; row += 3) {
    spoil(1, row);
  }
  for (int h = 0; h < 9; ++h) {
    lanes.q[static_cast<std::size_t>(h * dim) + 5] = 0.25F;
  }
  for (int i = 2 * 3 * dim; i < 9 * dim; ++i) {
    lanes.q[static_cast<std::size_t>(i)] *= 1e30F;
  }
  lanes.upload_all();
  Attention<Half> attention(lanes, 4);
  attention.launch(lanes, stream);
  Errors const errors = errors_of(lanes, attention, stream);
  CHECK(errors.worst <= 1.0);
  CHECK(errors.logits == 0);
  auto const lse = test::download(attention.lse, stream);
  CHECK(lse[0] == -test::infinity);
  CHECK(std::isfinite(lse[3]));
  CHECK(std::isfinite(lse[8]));
}

TEST_CASE("A captured launch serves rows that grow", "[attention]") {
  test::Stream const stream;
  std::vector<int> const final_counts{2000, 1, 300, 64};
  RandomLanes<Half> lanes(final_counts, 4, 128, 16, PageOrder::nhd, 9);
  Attention<Half> attention(lanes, 0);
  test::Graph const graph(stream, [&] { attention.launch(lanes, stream); });
  for (int const part : {0, 1, 7, 10}) {
    for (std::size_t i = 0; i < final_counts.size(); ++i) {
      lanes.lanes[i].rows = final_counts[i] * part / 10;
    }
    auto const counts = lanes.counts();
    check(cudaMemcpyAsync(attention.counts.data(), counts.data(), attention.counts.size_bytes(),
                          cudaMemcpyHostToDevice, stream.get()),
          "counts");
    auto const clean = std::vector<float>(lanes.logits.size(), -7.0F);
    check(cudaMemcpyAsync(lanes.logits.data(), clean.data(), lanes.logits.size_bytes(),
                          cudaMemcpyHostToDevice, stream.get()),
          "logits");
    graph.launch(stream);
    stream.wait();
    Errors const errors = errors_of(lanes, attention, stream);
    CHECK(errors.worst <= 1.0);
    CHECK(errors.logits == 0);
    CHECK(errors.tickets == 0);
  }
}

TEST_CASE("What attention asks of the device", "[attention]") {
  test::Stream const stream;
  auto const measure = [&](auto element, int group, int dim) {
    using T = decltype(element);
    RandomLanes<T> lanes({4096, 1024, 777, 4096}, group, dim, 16, PageOrder::nhd, 10);
    Attention<T> attention(lanes, 0);
    auto const stats = test::count(stream, [&] { attention.launch(lanes, stream); });
    if (stats) {
      double rows = 0.0;
      for (auto const& lane : lanes.lanes) {
        rows += lane.rows;
      }
      double const row_bytes = 2.0 * dim * sizeof(T);
      CAPTURE(group, dim, test::sector_efficiency(*stats),
              static_cast<double>(stats->global_load_bytes) / (rows * row_bytes),
              static_cast<double>(stats->warp_instructions) / rows);
      CHECK(stats->kernel_launches == 1);
      CHECK(stats->host_syncs == 0);
      CHECK(stats->mallocs + stats->async_mallocs + stats->host_allocs == 0);
      CHECK(test::sector_efficiency(*stats) >= 0.9);
      CHECK(32.0 * static_cast<double>(stats->global_load_sectors) <= 1.1 * rows * row_bytes);
      WARN("group " << group << ", dim " << dim << ", " << sizeof(T) << "-byte elements: "
                    << static_cast<double>(stats->global_load_sectors) * 32.0 / rows
                    << " bytes read a row of " << row_bytes << ", "
                    << static_cast<double>(stats->warp_instructions) / rows
                    << " warp instructions a row, efficiency " << test::sector_efficiency(*stats));
    }
  };
  measure(Half{}, 4, 128);
  measure(Half{}, 8, 128);
  measure(BFloat16{}, 1, 64);
  measure(float{}, 4, 128);
  measure(Half{}, 4, 256);
}

TEST_CASE("Bad input is refused before anything is launched", "[attention]") {
  test::Stream const stream;
  RandomLanes<Half> lanes({20, 30}, 4, 64, 16, PageOrder::nhd, 11);
  Attention<Half> good(lanes, 2);
  auto const rejects = [&](std::string const& text, auto const& change) {
    Attention<Half> attention(lanes, 2);
    change(attention);
    try {
      attention.launch(lanes, stream);
      FAIL("accepted: " << text);
    } catch (InvalidArgument const& error) {
      CAPTURE(error.what());
      CHECK(std::string(error.what()).find(text) != std::string::npos);
    }
  };
  rejects("group is 0", [](auto& a) { a.shape.group = 0; });
  rejects("group is 65", [](auto& a) { a.shape.group = 65; });
  rejects("head_dim is 60", [](auto& a) { a.shape.head_dim = 60; });
  rejects("head_dim is 264", [](auto& a) { a.shape.head_dim = 264; });
  rejects("blocks is -1", [](auto& a) { a.shape.blocks = -1; });
  rejects("octaves is 0", [](auto& a) { a.shape.octaves = 0.0F; });
  rejects("q has 512 elements, expected 1024", [](auto& a) { a.shape.head_dim = 128; });
  rejects("out has 511 elements, expected 512", [](auto& a) { a.out = DeviceArray<float>(511); });
  rejects("lse has 7 elements, expected 8", [](auto& a) { a.lse = DeviceArray<float>(7); });
  rejects("there are 1 tickets, expected at least 2",
          [](auto& a) { a.tickets = DeviceArray<std::uint32_t>(1); });
  rejects("the workspace has 256 bytes", [](auto& a) { a.workspace = Workspace(256); });
  good.lse = DeviceArray<float>();
  good.descriptors = test::upload(lanes.descriptors<AttentionLane<Half>>());
  CHECK_NOTHROW(good.launch(lanes, stream));

  KvPages<Half> pages = lanes.pool;
  pages.page_tokens = 3;
  CHECK_THROWS_AS(check_pages(pages), InvalidArgument);
  pages = lanes.pool;
  pages.page_elements = 2 * pages.part_elements() + 4;
  CHECK_THROWS_AS(check_pages(pages), InvalidArgument);
  pages = lanes.pool;
  pages.memory = pages.memory.subspan(1);
  CHECK_THROWS_AS(check_pages(pages), InvalidArgument);
}
