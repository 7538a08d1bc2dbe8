#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/host/kernels/rotation.hpp>
#include <kvfreeze/host/kernels/value_codes.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <gpu/attention_rows.cuh>
#include <gpu/device.cuh>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using test::ExactAttention;
using test::RandomLanes;

using Lane = AttentionLane<Half, 2, 4, 8>;
using Lanes = AttentionLanes<Half, 2, 4, 8>;

constexpr float octaves = 1.1F;

/// Rows of a lane's runs.
struct Counts {
  int exact = 0;
  int known = 0;
  std::array<int, 3> coded{};
};

/// Codes of all lanes at one level, in pages whose numbers are mixed.
struct CodePages {
  std::size_t page_bytes = 0;
  std::uint32_t page_rows = 0;
  std::uint32_t values = 0;
  std::uint32_t scales = 0;
  std::size_t stride = 0;
  std::size_t row_stride = 1;  // on the device; not 1: logits lie row by row there
  std::vector<std::byte> bytes;
  std::vector<std::vector<std::uint32_t>> pages;   // of each lane; empty: 0, 1, ...
  std::vector<std::vector<float>> logits;          // of each lane, [group][stride]
  std::vector<std::vector<std::vector<float>>> v;  // of each lane and row: levels * scale
  DeviceArray<std::byte> device_bytes;
  DeviceArray<std::uint32_t> device_pages;
  DeviceArray<float> device_logits;

  template <int Bits>
  void make(std::vector<int> const& counts, int group, int dim, std::uint32_t rows_of_page,
            unsigned seed) {
    std::mt19937 random(seed);
    auto const next = [&] { return static_cast<unsigned>(random()); };
    page_rows = rows_of_page;
    std::size_t const row_bytes = host::value_code_bytes<Bits>(dim);
    values = 48;
    scales = values + static_cast<std::uint32_t>(page_rows * row_bytes) + 2;
    page_bytes = (scales + 2 * page_rows + 15) / 16 * 16;
    int const longest = *std::max_element(counts.begin(), counts.end());
    stride = static_cast<std::size_t>((longest + 15) / 8 * 8);
    row_stride = Bits == 4 ? static_cast<std::size_t>(group) + 1 : 1;
    std::vector<std::uint32_t> numbers;
    for (int const count : counts) {
      for (int i = 0; i < (count + static_cast<int>(page_rows) - 1) / static_cast<int>(page_rows);
           ++i) {
        numbers.push_back(static_cast<std::uint32_t>(numbers.size()));
      }
    }
    std::uint32_t const plain = numbers.empty() ? 0 : numbers.back() + 1;
    std::shuffle(numbers.begin(), numbers.end(), random);
    // The last lane's pages are not listed: they lie in front, the others behind them.
    auto const in_front = static_cast<std::uint32_t>(
        (counts.back() + static_cast<int>(page_rows) - 1) / static_cast<int>(page_rows));
    bytes.assign((plain + in_front) * page_bytes, std::byte{0xEE});
    for (std::size_t lane = 0; lane < counts.size(); ++lane) {
      std::vector<std::uint32_t> list;
      auto const held = (static_cast<std::uint32_t>(counts[lane]) + page_rows - 1) / page_rows;
      for (std::uint32_t i = 0; i < held; ++i) {
        list.push_back(lane + 1 == counts.size() ? i : in_front + numbers.back());
        numbers.pop_back();
      }
      std::vector<std::vector<float>> rows;
      for (int row = 0; row < counts[lane]; ++row) {
        auto const r = static_cast<std::uint32_t>(row);
        auto value = test::normal_numbers(static_cast<std::size_t>(dim), next(), 0.7F);
        std::byte* const page = bytes.data() + list[r / page_rows] * page_bytes;
        std::byte* const code = page + values + r % page_rows * row_bytes;
        BFloat16 const scale = host::encode_values<Bits>(value.data(), dim, code);
        std::memcpy(page + scales + 2 * (r % page_rows), &scale, sizeof scale);
        host::decode_values<Bits>(code, scale, dim, value.data());
        rows.push_back(value);
      }
      v.push_back(rows);
      logits.push_back(
          test::normal_numbers(static_cast<std::size_t>(group) * stride, next(), 3.0F));
      for (std::size_t i = 2; i < logits.back().size(); i += 7) {
        logits.back()[i] = -test::infinity;
      }
      if (lane + 1 == counts.size()) {
        list.clear();
      }
      pages.push_back(list);
    }
    device_bytes = test::upload(bytes);
    std::vector<std::uint32_t> all_pages;
    std::vector<float> all_logits;
    for (std::size_t lane = 0; lane < counts.size(); ++lane) {
      all_pages.insert(all_pages.end(), pages[lane].begin(), pages[lane].end());
      auto const& own = logits[lane];
      std::size_t const heads = own.size() / stride;
      for (std::size_t i = 0; row_stride > 1 && i < stride * row_stride; ++i) {
        std::size_t const head = i % row_stride;
        all_logits.push_back(head < heads ? own[head * stride + i / row_stride] : 9.0F);
      }
      if (row_stride == 1) {
        all_logits.insert(all_logits.end(), own.begin(), own.end());
      }
    }
    device_pages = test::upload(all_pages);
    device_logits = test::upload(all_logits);
  }

  /// Descriptions of all lanes' rows.
  [[nodiscard]] std::vector<ValueCodeRows> rows() const {
    std::vector<ValueCodeRows> out;
    std::uint32_t const* at = device_pages.data();
    for (std::size_t lane = 0; lane < pages.size(); ++lane) {
      ValueCodeRows rows;
      rows.base = device_bytes.data();
      rows.pages = pages[lane].empty() ? nullptr : at;
      rows.page_bytes = page_bytes;
      rows.page_rows = page_rows;
      rows.values = values;
      rows.scales = scales;
      bool const by_row = row_stride > 1;
      std::size_t const floats = by_row ? stride * row_stride : logits[lane].size();
      rows.logits = device_logits.data() + lane * floats;
      rows.stride = by_row ? 1 : stride;
      rows.row_stride = static_cast<std::uint32_t>(row_stride);
      at += pages[lane].size();
      out.push_back(rows);
    }
    return out;
  }
};

std::vector<int> column(std::vector<Counts> const& counts, std::size_t level) {
  std::vector<int> out;
  for (Counts const& c : counts) {
    out.push_back(c.coded[level]);
  }
  return out;
}

std::vector<int> exact_column(std::vector<Counts> const& counts) {
  std::vector<int> out;
  for (Counts const& c : counts) {
    out.push_back(c.exact);
  }
  return out;
}

/// A batch of lanes on the ladder.
struct Ladder {
  std::vector<Counts> counts;
  RandomLanes<Half> exact;
  std::array<CodePages, 3> coded;
  std::vector<float> known_logits;  // [lanes][group][stride], -7 behind the known rows
  std::vector<float> means;         // [lanes][dim]
  std::vector<float> absent;        // [lanes][group]
  std::vector<float> highest;
  DecodeShape shape;
  DeviceArray<float> device_means;
  DeviceArray<float> device_absent;
  DeviceArray<float> device_highest;
  DeviceArray<Lane> descriptors;
  DeviceArray<std::uint32_t> device_counts;
  DeviceArray<float> out;
  DeviceArray<float> lse;
  DeviceArray<std::uint32_t> tickets;
  Workspace workspace;

  Ladder(std::vector<Counts> const& runs, int group, int dim, std::uint32_t page_rows, int blocks,
         unsigned seed)
      : counts(runs), exact(exact_column(runs), group, dim, 16, PageOrder::nhd, seed) {
    coded[0].make<2>(column(runs, 0), group, dim, page_rows, seed + 10);
    coded[1].make<4>(column(runs, 1), group, dim, page_rows, seed + 20);
    coded[2].make<8>(column(runs, 2), group, dim, page_rows, seed + 30);
    std::size_t const heads = runs.size() * static_cast<std::size_t>(group);
    means = test::normal_numbers(runs.size() * static_cast<std::size_t>(dim), seed + 40, 0.5F);
    highest = test::normal_numbers(heads, seed + 41, 3.0F);
    absent = test::normal_numbers(heads, seed + 42, 3e7F);  // some are negative: made 0
    for (float& x : absent) {
      x = std::max(x, 0.0F);
    }
    device_means = test::upload(means);
    device_highest = test::upload(highest);
    device_absent = test::upload(absent);
    known_logits = test::normal_numbers(exact.logits.size(), seed + 43, 3.0F);
    for (std::size_t i = 0; i < known_logits.size(); ++i) {
      auto const row = static_cast<int>(i % exact.stride);
      auto const lane = i / exact.stride / static_cast<std::size_t>(group);
      known_logits[i] = row < runs[lane].known ? known_logits[i] : -7.0F;
    }
    exact.logits = test::upload(known_logits);

    auto lanes = exact.descriptors<Lane>();
    for (std::size_t level = 0; level < 3; ++level) {
      auto const rows = coded[level].rows();
      for (std::size_t i = 0; i < lanes.size(); ++i) {
        lanes[i].codes[level] = rows[i];
      }
    }
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      lanes[i].means = device_means.data() + i * static_cast<std::size_t>(dim);
      if (i % 2 == 0) {
        lanes[i].absent = device_absent.data() + i * static_cast<std::size_t>(group);
        lanes[i].highest = device_highest.data() + i * static_cast<std::size_t>(group);
      }
    }
    descriptors = test::upload(lanes);
    std::vector<std::uint32_t> numbers;
    auto const push = [&](auto const& of) {
      for (Counts const& c : counts) {
        numbers.push_back(static_cast<std::uint32_t>(of(c)));
      }
    };
    push([](Counts const& c) { return c.exact; });
    push([](Counts const& c) { return c.known; });
    for (std::size_t level = 0; level < 3; ++level) {
      push([=](Counts const& c) { return c.coded[level]; });
    }
    device_counts = test::upload(numbers);
    shape.group = group;
    shape.head_dim = dim;
    shape.octaves = octaves;
    shape.blocks = blocks;
    out = test::filled(heads * static_cast<std::size_t>(dim), -9.0F);
    lse = test::filled(heads, -9.0F);
    tickets = test::filled(decode_attention_tickets(shape, runs.size()), std::uint32_t{0});
    workspace = Workspace(decode_attention_workspace_bytes<Lanes>(shape, runs.size()));
  }

  void launch(::cuda::stream_ref stream) {
    decode_attention_async(Lanes{descriptors.span(), device_counts.span()}, shape, exact.device_q,
                           out, lse, tickets, workspace, stream);
  }

  /// A coded row's value and what it is made of.
  void add_coded(ExactAttention& attention, float logit, std::vector<float> const& v,
                 float const* mean) const {
    std::vector<float> rotated = v;
    host::rotate(rotated.data(), shape.head_dim);
    float most = 0.0F;
    for (float const x : v) {
      most = std::max(most, std::fabs(x));
    }
    attention.add(
        static_cast<double>(logit),
        [&](std::size_t d) {
          return static_cast<double>(rotated[d]) + static_cast<double>(mean[d]);
        },
        [&](std::size_t d) { return most + std::fabs(mean[d]); });
  }

  /// Largest error in units of what is promised.
  [[nodiscard]] double worst(test::Stream const& stream) const {
    auto const got = test::download(out, stream);
    auto const got_lse = test::download(lse, stream);
    auto const group = static_cast<std::size_t>(shape.group);
    auto const dim = static_cast<std::size_t>(shape.head_dim);
    double most = 0.0;
    for (std::size_t at = 0; at < got_lse.size(); ++at) {
      std::size_t const lane = at / group;
      ExactAttention attention(shape.head_dim);
      float const* const mean = means.data() + lane * dim;
      if (!shape.compact_only) {
        auto const computed = exact.expected_logits(lane, static_cast<int>(at % group), octaves);
        for (int row = 0; row < counts[lane].exact; ++row) {
          auto const r = static_cast<std::size_t>(row);
          Half const* const v = exact.v(lane, row);
          attention.add(
              static_cast<double>(row < counts[lane].known ? known_logits[at * exact.stride + r]
                                                           : computed[r]),
              [&](std::size_t d) { return to_float(v[d]); });
        }
        if (lane % 2 == 0 && absent[at] > 0.0F) {
          attention.add(
              std::log2(static_cast<double>(absent[at])) + static_cast<double>(highest[at]) - 24.0,
              [&](std::size_t d) { return mean[d]; });
        }
      }
      for (CodePages const& level : coded) {
        for (std::size_t row = 0; row < level.v[lane].size(); ++row) {
          add_coded(attention, level.logits[lane][at % group * level.stride + row],
                    level.v[lane][row], mean);
        }
      }
      most = std::max(
          most, test::worst_error(attention, got.data() + at * dim, shape.head_dim, got_lse[at]));
    }
    return most;
  }

  /// Logits that are neither the host's nor those that were given nor untouched.
  [[nodiscard]] int wrong_logits(test::Stream const& stream) const {
    auto const got = test::download(exact.logits, stream);
    auto const group = static_cast<std::size_t>(shape.group);
    int wrong = 0;
    for (std::size_t at = 0; at < counts.size() * group; ++at) {
      std::size_t const lane = at / group;
      auto const computed = exact.expected_logits(lane, static_cast<int>(at % group), octaves);
      for (std::size_t row = 0; row < exact.stride; ++row) {
        auto const r = static_cast<int>(row);
        bool const written =
            !shape.compact_only && r >= counts[lane].known && r < counts[lane].exact;
        float const expected = written ? computed[row] : known_logits[at * exact.stride + row];
        wrong += got[at * exact.stride + row] != expected ? 1 : 0;
      }
    }
    return wrong;
  }
};

std::vector<Counts> const& mixed_lanes() {
  static std::vector<Counts> const lanes{{0, 0, {0, 0, 0}},     {17, 0, {0, 0, 0}},
                                         {0, 0, {1, 0, 0}},     {300, 250, {90, 33, 5}},
                                         {16, 16, {0, 31, 32}}, {1, 0, {700, 400, 65}},
                                         {900, 0, {0, 64, 0}},  {40, 1, {13, 0, 200}},
                                         {0, 0, {0, 0, 0}},     {130, 77, {100, 100, 99}}};
  return lanes;
}

void check_ladder(int group, int dim, std::uint32_t page_rows, int blocks) {
  CAPTURE(group, dim, page_rows, blocks);
  test::Stream const stream;
  Ladder ladder(mixed_lanes(), group, dim, page_rows, blocks, static_cast<unsigned>(group + dim));
  ladder.launch(stream);
  CHECK(ladder.worst(stream) <= 1.0);
  CHECK(ladder.wrong_logits(stream) == 0);
  ladder.shape.compact_only = true;
  ladder.exact.logits = test::upload(ladder.known_logits);
  ladder.launch(stream);
  CHECK(ladder.worst(stream) <= 1.0);
  auto const tickets = test::download(ladder.tickets, stream);
  CHECK(std::all_of(tickets.begin(), tickets.end(), [](std::uint32_t t) { return t == 0; }));
}

}  // namespace

TEST_CASE("Exact, known, compact and absent rows in one pass", "[attention]") {
  check_ladder(3, 64, 16, 0);
  check_ladder(4, 128, 12, 5);
  check_ladder(8, 96, 4, 40);
  check_ladder(1, 40, 7, 1);
  check_ladder(2, 56, 16, 3);
  check_ladder(4, 256, 20, 9);
  check_ladder(16, 184, 16, 4);
  check_ladder(33, 128, 16, 6);  // two passes
}

TEST_CASE("A lane may consist of what is absent", "[attention]") {
  test::Stream const stream;
  Ladder ladder({{0, 0, {0, 0, 0}}}, 2, 64, 16, 0, 50);
  std::fill(ladder.absent.begin(), ladder.absent.end(), 3e7F);
  check(cudaMemcpy(ladder.device_absent.data(), ladder.absent.data(),
                   ladder.device_absent.size_bytes(), cudaMemcpyHostToDevice),
        "absent");
  ladder.launch(stream);
  CHECK(ladder.worst(stream) <= 1.0);
  auto const out = test::download(ladder.out, stream);
  CHECK(out[5] == Approx(ladder.means[5]));
  ladder.shape.compact_only = true;
  ladder.launch(stream);
  CHECK(test::download(ladder.lse, stream)[1] == -test::infinity);
  CHECK(test::download(ladder.out, stream)[64] == 0.0F);
}

TEST_CASE("What compact rows ask of the device", "[attention]") {
  test::Stream const stream;
  auto const measure = [&](Counts const& counts, double row_bytes, char const* what) {
    Ladder ladder({counts, counts}, 4, 128, 16, 0, 60);
    if (auto const stats = test::count(stream, [&] { ladder.launch(stream); })) {
      double const rows =
          2.0 * (counts.exact + counts.coded[0] + counts.coded[1] + counts.coded[2]);
      double const bytes = 32.0 * static_cast<double>(stats->global_load_sectors);
      WARN(what << ": " << bytes / rows << " bytes read a row of " << row_bytes << ", "
                << static_cast<double>(stats->warp_instructions) / rows
                << " warp instructions a row, efficiency " << test::sector_efficiency(*stats));
      CHECK(stats->kernel_launches == 1);
      CHECK(stats->host_syncs == 0);
      CHECK(stats->mallocs + stats->async_mallocs + stats->host_allocs == 0);
      CHECK(test::sector_efficiency(*stats) >= 0.9);
    }
  };
  // Codes, scale and four logits.
  measure({0, 0, {6000, 0, 0}}, 32 + 2 + 16, "2 bits");
  measure({0, 0, {0, 6000, 0}}, 64 + 2 + 16, "4 bits");
  measure({0, 0, {0, 0, 6000}}, 128 + 2 + 16, "8 bits");
  measure({6000, 6000, {0, 0, 0}}, 256 + 16, "known");
  measure({6000, 0, {0, 0, 0}}, 512, "exact");
}
