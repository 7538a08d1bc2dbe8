#pragma once

/// @file
/// @brief Lanes of random rows for attention's tests, on both sides, and attention in doubles.

#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/host/kernels/convert.hpp>
#include <kvfreeze/host/kernels/dot.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace kvfreeze::gpu::test {

inline constexpr float infinity = std::numeric_limits<float>::infinity();

inline std::vector<float> normal_numbers(std::size_t n, unsigned seed, float sigma = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(n);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

/// How a lane's rows are found.
enum class Listing { none, slots, pages, both };

/// @brief Lanes in one pool of pages, their lists, and a place for logits. A lane's rows lie
/// anywhere, other lanes' rows and gaps between them.
template <Element T>
struct RandomLanes {
  struct LaneRows {
    int rows = 0;
    int head = 0;
    Listing listing = Listing::none;
    std::vector<std::uint32_t> slots;  // as handed over
    std::vector<std::uint32_t> pages;
    std::vector<std::uint32_t> places;  // of every row
  };

  int group;
  int dim;
  int page_tokens;
  KvPages<T> pool;  // of the host's copy
  std::size_t stride;
  std::vector<T> elements;
  std::vector<LaneRows> lanes;
  std::vector<float> q;  // [lanes][group][dim]

  DeviceArray<T> device_elements;
  DeviceArray<std::uint32_t> lists;
  DeviceArray<float> device_q;
  DeviceArray<float> logits;  // [lanes][group][stride]

  /// @param counts rows of each lane
  RandomLanes(std::vector<int> const& counts, int query_group, int head_dim, int tokens,
              PageOrder order, unsigned seed, float q_sigma = 0.3F)
      : group(query_group), dim(head_dim), page_tokens(tokens) {
    std::mt19937 random(seed);
    constexpr int heads = 2;
    int const longest = *std::max_element(counts.begin(), counts.end());
    int const pages = std::accumulate(counts.begin(), counts.end(), 0) / tokens +
                      2 * static_cast<int>(counts.size()) + 3;
    stride = static_cast<std::size_t>((longest + 15) / 8 * 8);
    pool.page_tokens = tokens;
    pool.heads = heads;
    pool.head_dim = dim;
    pool.order = order;
    pool.page_elements = 2 * pool.part_elements() + 16;
    elements.resize(static_cast<std::size_t>(pages) * pool.page_elements);
    auto const numbers = normal_numbers(elements.size(), seed + 1);
    host::from_floats(numbers.data(), elements.data(), elements.size());
    pool.memory = Span<T const>(elements.data(), elements.size());
    check_pages(pool);
    q = normal_numbers(counts.size() * static_cast<std::size_t>(group * dim), seed + 2, q_sigma);

    std::vector<std::uint32_t> free_pages(static_cast<std::size_t>(pages));
    std::iota(free_pages.begin(), free_pages.end(), 0U);
    std::shuffle(free_pages.begin() + longest / tokens + 1, free_pages.end(), random);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      LaneRows lane;
      lane.rows = counts[i];
      lane.head = static_cast<int>(i % heads);
      lane.listing = static_cast<Listing>(i % 4);
      int const held = (counts[i] + tokens - 1) / tokens + 1;  // one has no rows: gaps
      for (int p = 0; lane.listing != Listing::none && p < held; ++p) {
        lane.pages.push_back(free_pages.back());
        free_pages.pop_back();
      }
      std::vector<std::uint32_t> slots(static_cast<std::size_t>(held * tokens));
      std::iota(slots.begin(), slots.end(), 0U);
      if (lane.listing == Listing::slots || lane.listing == Listing::both) {
        std::shuffle(slots.begin(), slots.end(), random);
      }
      slots.resize(static_cast<std::size_t>(lane.rows));
      if (lane.listing == Listing::slots) {  // numbers in the pool
        for (auto& slot : slots) {
          slot = lane.pages[slot / static_cast<unsigned>(tokens)] * static_cast<unsigned>(tokens) +
                 slot % static_cast<unsigned>(tokens);
        }
        lane.pages.clear();
      }
      PagedRows<T> const view =
          pool.rows(0, slots.data(), lane.pages.empty() ? nullptr : lane.pages.data());
      for (std::uint32_t row = 0; row < slots.size(); ++row) {
        lane.places.push_back(view.place(row));
      }
      if (lane.listing == Listing::slots || lane.listing == Listing::both) {
        lane.slots = slots;
      }
      lanes.push_back(lane);
    }
    upload_all();
  }

  void upload_all() {
    device_elements = upload(elements);
    device_q = upload(q);
    logits = filled(lanes.size() * static_cast<std::size_t>(group) * stride, -7.0F);
  }

  /// Rows of lane i, addresses of the host's or of the device's copy.
  [[nodiscard]] PagedRows<T> host_rows(std::size_t i) const {
    LaneRows const& lane = lanes[i];
    return pool.rows(lane.head, lane.slots.empty() ? nullptr : lane.slots.data(),
                     lane.pages.empty() ? nullptr : lane.pages.data());
  }

  /// Descriptors; the lists behind them move when this is called again.
  template <class Lane>
  std::vector<Lane> descriptors() {
    std::vector<std::uint32_t> all;
    for (LaneRows const& lane : lanes) {
      all.insert(all.end(), lane.slots.begin(), lane.slots.end());
      all.insert(all.end(), lane.pages.begin(), lane.pages.end());
    }
    lists = upload(all);
    KvPages<T> device = pool;
    device.memory = device_elements.span();
    check_pages(device);
    std::vector<Lane> out(lanes.size());
    std::uint32_t const* at = lists.data();
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      LaneRows const& lane = lanes[i];
      std::uint32_t const* const slots = lane.slots.empty() ? nullptr : at;
      at += lane.slots.size();
      std::uint32_t const* const pages = lane.pages.empty() ? nullptr : at;
      at += lane.pages.size();
      out[i].rows = device.rows(lane.head, slots, pages);
      out[i].logits = logits.data() + i * static_cast<std::size_t>(group) * stride;
      out[i].stride = stride;
    }
    return out;
  }

  [[nodiscard]] std::vector<std::uint32_t> counts() const {
    std::vector<std::uint32_t> out;
    for (LaneRows const& lane : lanes) {
      out.push_back(static_cast<std::uint32_t>(lane.rows));
    }
    return out;
  }

  /// K of a row, head_dim elements.
  [[nodiscard]] T const* k(std::size_t lane, int row) const {
    PagedRows<T> const rows = host_rows(lane);
    return rows.k + rows.offset(lanes[lane].places[static_cast<std::size_t>(row)]);
  }

  [[nodiscard]] T const* v(std::size_t lane, int row) const {
    PagedRows<T> const rows = host_rows(lane);
    return rows.v + rows.offset(lanes[lane].places[static_cast<std::size_t>(row)]);
  }

  /// Queries of a head in octaves.
  [[nodiscard]] std::vector<float> query(std::size_t lane, int head, float octaves) const {
    auto const n = static_cast<std::size_t>(dim);
    auto const first =
        q.begin() +
        static_cast<std::ptrdiff_t>(
            (lane * static_cast<std::size_t>(group) + static_cast<std::size_t>(head)) * n);
    std::vector<float> out(first, first + static_cast<std::ptrdiff_t>(n));
    for (float& x : out) {
      x *= octaves;
    }
    return out;
  }

  /// The canonical logits of a head.
  [[nodiscard]] std::vector<float> expected_logits(std::size_t lane, int head,
                                                   float octaves) const {
    std::vector<float> const scaled = query(lane, head, octaves);
    std::vector<float> out;
    for (int row = 0; row < lanes[lane].rows; ++row) {
      out.push_back(host::dot(scaled.data(), k(lane, row), dim));
    }
    return out;
  }
};

/// @brief Attention in doubles over rows that are added one by one.
class ExactAttention {
 public:
  explicit ExactAttention(int dim) : out_(static_cast<std::size_t>(dim)), magnitude_(out_.size()) {}

  /// @param value value(d): channel d
  template <class Value>
  void add(double logit, Value const& value) {
    add(logit, value, [&](std::size_t d) { return std::fabs(static_cast<double>(value(d))); });
  }

  /// @param magnitude magnitude(d): of what is rounded on the way to channel d
  template <class Value, class Magnitude>
  void add(double logit, Value const& value, Magnitude const& magnitude) {
    rows_ += 1.0;
    if (logit == -std::numeric_limits<double>::infinity()) {
      return;
    }
    double const before = std::max(highest_, logit);
    double const factor = std::exp2(highest_ - before);
    double const weight = std::exp2(logit - before);
    highest_ = before;
    sum_ = sum_ * factor + weight;
    for (std::size_t d = 0; d < out_.size(); ++d) {
      auto const v = static_cast<double>(value(d));
      out_[d] = out_[d] * factor + weight * v;
      magnitude_[d] = magnitude_[d] * factor + weight * static_cast<double>(magnitude(d));
    }
  }

  [[nodiscard]] double out(std::size_t d) const { return sum_ > 0.0 ? out_[d] / sum_ : 0.0; }

  /// Weighted mean of the values' magnitudes: what errors are relative to.
  [[nodiscard]] double magnitude(std::size_t d) const {
    return sum_ > 0.0 ? magnitude_[d] / sum_ : 0.0;
  }

  [[nodiscard]] double rows() const { return rows_; }

  [[nodiscard]] double lse() const {
    return sum_ > 0.0 ? (highest_ + std::log2(sum_)) * std::log(2.0)
                      : -std::numeric_limits<double>::infinity();
  }

 private:
  double highest_ = -std::numeric_limits<double>::infinity();
  double sum_ = 0.0;
  double rows_ = 0.0;
  std::vector<double> out_;
  std::vector<double> magnitude_;
};

/// What attention promises of its output, and of its log-sum-exp.
inline double output_tolerance(double rows) { return 1e-6 + 5e-8 * std::sqrt(rows); }

inline constexpr double lse_tolerance = 2e-6;

/// @brief The largest error of a head's output and log-sum-exp, in units of what is promised.
inline double worst_error(ExactAttention const& expected, float const* out, int dim, float lse) {
  double worst = 0.0;
  for (std::size_t d = 0; d < static_cast<std::size_t>(dim); ++d) {
    double const error = std::fabs(static_cast<double>(out[d]) - expected.out(d));
    double const allowed = output_tolerance(expected.rows()) * expected.magnitude(d);
    worst = std::max(worst, error <= 0.0 ? 0.0 : error / std::max(allowed, 1e-300));
    if (std::isnan(out[d])) {
      return std::numeric_limits<double>::infinity();
    }
  }
  if (expected.lse() == -std::numeric_limits<double>::infinity() || !std::isfinite(lse)) {
    return static_cast<double>(lse) == expected.lse() ? worst : 1e300;
  }
  double const error = std::fabs(static_cast<double>(lse) - expected.lse());
  return std::max(worst, error / (lse_tolerance * std::max(1.0, std::fabs(expected.lse()))));
}

}  // namespace kvfreeze::gpu::test
