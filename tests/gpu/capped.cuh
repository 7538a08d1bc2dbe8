#pragma once

/// @file
/// @brief Caches under a byte cap: a sequence that knows what it was given, and what holds whatever
/// the cap is.

#include <kvfreeze/error.hpp>
#include <kvfreeze/report.hpp>
#include <kvfreeze/types.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/twins.cuh>
#include <random>
#include <support/short_tests.hpp>
#include <vector>

namespace kvfreeze::gpu::test {

inline constexpr int capped_lanes = 4;  ///< of `small`, a lane for each KV head

/// Four sinks, a window of 16.
inline Limits capped_limits(int tokens, int sequences) {
  return {.max_tokens = tokens, .max_sequences = sequences, .sinks = 4, .window = 16};
}

/// The least cap with which a cache can be made.
template <class Cache, class... Policies>
std::size_t least_cap(Limits limits, Policies const&... policies) {
  limits.resident_bytes = 1;
  try {
    Cache const cache(small, limits, policies...);
  } catch (CapacityError const& error) {
    return error.needed();
  }
  return 0;
}

/// Are rows those that a cache was given, bit for bit?
template <class Element>
bool same_rows(std::vector<Element> const& found, std::vector<float> const& given) {
  return std::equal(found.begin(), found.end(), given.begin(), given.end(), [](Element a, float b) {
    return to_float(a) == to_float(from_float<Element>(b));
  });
}

/// A sequence's tokens go into a cache; what it was given is kept.
template <class Cache>
class Driver {
  using Element = typename Cache::element_type;

 public:
  Driver(Cache& cache, unsigned seed) : cache_(cache), handle_(cache.open(stream_)), k_(2), v_(2) {
    for (unsigned layer = 0; layer < 2; ++layer) {
      models_.emplace_back(small, seed + layer);
    }
  }

  void prefill(int tokens) {
    cache_.begin_prefill_async(handle_, tokens, stream_);
    for (int layer = 0; layer < 2; ++layer) {
      Rows const rows = next(layer, tokens);
      auto const q = upload(rows.q);
      auto const k = upload(rows.k);
      auto const v = upload(rows.v);
      cache_.template prefill_async<float>(layer, q, k, v, stream_);
      stream_.wait();
    }
    cache_.advance_async(stream_);
    stream_.wait();
  }

  /// One token of each of some sequences of one cache.
  static void step(std::vector<Driver*> const& batch) {
    step(batch, [] {});
  }

  /// @param meanwhile called before each layer
  /// @param logits [batch][any], or none
  template <class F>
  static void step(std::vector<Driver*> const& batch, F const& meanwhile,
                   std::vector<float> const& logits = {}) {
    Driver& first = *batch.front();
    std::vector<Sequence> handles;
    for (Driver const* driver : batch) {
      handles.push_back(driver->handle_);
    }
    first.cache_.begin_async(handles, first.stream_);
    for (int layer = 0; layer < 2; ++layer) {
      meanwhile();
      Rows rows;
      for (Driver* driver : batch) {
        append(rows, driver->next(layer, 1));
      }
      auto const q = upload(rows.q);
      auto const k = upload(rows.k);
      auto const v = upload(rows.v);
      DeviceArray<float> const out(rows.q.size());
      first.cache_.template attend_async<float>(layer, q, k, v, out, first.stream_);
      first.stream_.wait();
    }
    auto const given = upload(logits);
    first.cache_.template advance_async<float>(given, first.stream_);
    first.stream_.wait();
  }

  void truncate(int length) {
    cache_.truncate_async(handle_, length, stream_);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      k_[layer].resize(static_cast<std::size_t>(length) * 2 * 64);
      v_[layer].resize(k_[layer].size());
    }
  }

  void pin(std::vector<TokenRange> const& ranges) { cache_.pin_async(handle_, ranges, stream_); }

  void thaw() { cache_.thaw_async(handle_, stream_); }

  /// Asks for the rows of a layer, those of the step that has begun included.
  void gather(int layer) {
    DeviceArray<Element> const rows(
        std::max(k_[static_cast<std::size_t>(layer)].size(), std::size_t{2 * 64}));
    cache_.gather_async(handle_, layer, rows.span(), rows.span(), stream_);
    stream_.wait();
  }

  [[nodiscard]] int length() const { return cache_.length(handle_); }

  /// Of the sequence.
  [[nodiscard]] int lanes() const { return 2 * cache_.lanes_per_layer(); }

  [[nodiscard]] StepReport report() const { return cache_.report(handle_); }

  /// Fidelities of all lanes, one behind another.
  [[nodiscard]] std::vector<Fidelity> fidelities() const {
    auto const rows = static_cast<std::size_t>(length());
    std::vector<Fidelity> all;
    int const each = cache_.lanes_per_layer();
    for (int lane = 0; lane < lanes(); ++lane) {
      std::vector<Fidelity> one(rows);
      cache_.fidelities(handle_, lane / each, lane % each, one, stream_);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  /// Protected rows are exact, those of a granule are at one level, rows are what they were.
  /// @param group rows of a digest
  void check(std::size_t group = 1) const {
    auto const rows = static_cast<std::size_t>(length());
    auto const found = fidelities();
    for (std::size_t lane = 0; lane < static_cast<std::size_t>(lanes()); ++lane) {
      auto const* const own = found.data() + lane * rows;
      for (std::size_t i = 0; i < rows; ++i) {
        if (i < 4 || i + 16 >= rows || i >= rows / group * group) {
          REQUIRE(own[i] == Fidelity::exact);
        }
        if (i % Cache::layout_type::page_tokens != 0) {
          REQUIRE(own[i] == own[i - 1]);
        }
      }
    }
    if constexpr (gives_rows<Cache>) {
      for (std::size_t layer = 0; layer < 2; ++layer) {
        DeviceArray<Element> const k(k_[layer].size());
        DeviceArray<Element> const v(v_[layer].size());
        cache_.gather_async(handle_, static_cast<int>(layer), k.span(), v.span(), stream_);
        REQUIRE(same_rows(download(k, stream_), k_[layer]));
        REQUIRE(same_rows(download(v, stream_), v_[layer]));
      }
    }
  }

  /// Does the last report count the rows as they are?
  void check_report() const {
    auto const found = fidelities();
    auto const count = [&](Fidelity fidelity) {
      return static_cast<std::uint64_t>(std::count(found.begin(), found.end(), fidelity));
    };
    RowCounts const rows = report().rows;
    REQUIRE(rows.exact == count(Fidelity::exact));
    REQUIRE(rows.compact == count(Fidelity::compact));
    REQUIRE(rows.frozen == count(Fidelity::frozen));
    REQUIRE(rows.asleep == count(Fidelity::asleep));
    REQUIRE(rows.evicted == count(Fidelity::evicted));
  }

 private:
  struct Rows {
    std::vector<float> q;
    std::vector<float> k;
    std::vector<float> v;
  };

  static void append(Rows& all, Rows const& more) {
    all.q.insert(all.q.end(), more.q.begin(), more.q.end());
    all.k.insert(all.k.end(), more.k.begin(), more.k.end());
    all.v.insert(all.v.end(), more.v.begin(), more.v.end());
  }

  Rows next(int layer, int tokens) {
    auto const at = static_cast<std::size_t>(layer);
    Rows all;
    for (int i = 0; i < tokens; ++i) {
      Rows one;
      models_[at].step(one.q, one.k, one.v);
      append(all, one);
    }
    k_[at].insert(k_[at].end(), all.k.begin(), all.k.end());
    v_[at].insert(v_[at].end(), all.v.begin(), all.v.end());
    return all;
  }

  Stream stream_;
  Cache& cache_;
  Sequence handle_;
  std::vector<Model> models_;
  std::vector<std::vector<float>> k_;
  std::vector<std::vector<float>> v_;
};

/// @brief Under caps from the least one up: the ledger and the allocations stay below it, protected
/// rows are exact, rows are what they were and reports count them, through chunks, cuts, pins and
/// steps; and the cap decides at times.
/// @param group rows of a digest
/// @param scales of the room above the least cap, in rows of the whole context; short tests take
/// the first
template <class Cache, class... Policies>
void hold_caps(int tokens, std::size_t group, std::vector<double> scales,
               Policies const&... policies) {
  if (kvfreeze_test::short_tests()) {
    tokens = std::min(tokens, 224);
    scales.resize(1);
  }
  Limits limits = capped_limits(tokens, 1);
  std::size_t const least = least_cap<Cache>(limits, policies...);
  REQUIRE(least > 0);
  std::size_t const full = static_cast<std::size_t>(tokens) * capped_lanes * 2 * 64 *
                           sizeof(typename Cache::element_type);
  for (double const scale : scales) {
    limits.resident_bytes = least + static_cast<std::size_t>(scale * static_cast<double>(full));
    Cache cache(small, limits, policies...);
    CHECK(cache.device_bytes() <= limits.resident_bytes);
    Driver<Cache> driver(cache, 3);
    std::mt19937 random(11);
    bool bound = false;
    while (driver.length() + 6 <= tokens) {
      int const what = static_cast<int>(random() % 16);
      if (what < 3 && driver.length() + 70 <= tokens) {
        driver.prefill(1 + static_cast<int>(random() % 64));
      } else if (what == 3 && driver.length() > 80) {
        driver.truncate(driver.length() - static_cast<int>(random() % 3) * 16);
      } else if (what == 4) {
        driver.pin({{driver.length() / 2, driver.length() / 2 + 3}});
      } else {
        for (int i = 0; i < 6; ++i) {
          Driver<Cache>::step({&driver});
          StepReport const report = driver.report();
          REQUIRE(report.ledger.resident() <= limits.resident_bytes);
          bound = bound || report.binding == Binding::resident_bytes ||
                  report.rows.exact < static_cast<std::uint64_t>(report.length * driver.lanes());
        }
        driver.check_report();
      }
      driver.check(group);
    }
    CAPTURE(scale);
    CHECK(bound);
    CHECK(cache.device_bytes() <= limits.resident_bytes);
  }
}

/// @brief What a step moves stays below a transfer budget of two granules and a row a lane, the row
/// that is written through; what had to wait comes later. Where rows may be compact, or have
/// granules of their own.
/// @param group rows of a digest
/// @param capped under a byte cap too
template <class Cache, class... Policies>
void hold_transfers(std::size_t group, bool capped, Policies const&... policies) {
  constexpr std::size_t row_bytes = 2 * 64 * sizeof(typename Cache::element_type);
  Limits limits = capped_limits(320, 1);
  if (capped) {
    limits.resident_bytes =
        least_cap<Cache>(limits, policies...) + 320 * capped_lanes * row_bytes / 4;
  }
  constexpr std::size_t granule = Cache::layout_type::page_tokens;
  limits.transfer_bytes = (1 + granule) * capped_lanes * row_bytes - 1;
  CHECK_THROWS_AS(Cache(small, limits, policies...), InvalidArgument);
  limits.transfer_bytes = (1 + 2 * granule) * capped_lanes * row_bytes;
  Cache cache(small, limits, policies...);
  Driver<Cache> driver(cache, 7);
  for (int chunk = 0; chunk < 3; ++chunk) {
    driver.prefill(60);
  }
  std::uint64_t deferred = 0;
  std::uint64_t thawed = 0;
  for (int i = 0; i < (kvfreeze_test::short_tests() ? 25 : 60); ++i) {
    Driver<Cache>::step({&driver});
    StepReport const report = driver.report();
    REQUIRE(report.moved_in_bytes + report.moved_out_bytes <= limits.transfer_bytes);
    deferred += report.deferred_rows;
    thawed += report.thawed_rows;
  }
  driver.check(group);
  CHECK(deferred > 0);
  CHECK(thawed > 0);
}

}  // namespace kvfreeze::gpu::test
