#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <gpu/ladder_twins.cuh>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;

using Cache = gpu::test::Ladder<Half>;
using gpu::test::ladder;
using gpu::test::small;

constexpr int lanes = 4;
constexpr std::size_t row_bytes = 2 * 64 * 2;

Limits budget_limits(int tokens, int sequences) {
  return {.max_tokens = tokens, .max_sequences = sequences, .sinks = 4, .window = 16};
}

/// The least cap with which a cache can be made.
std::size_t least_cap(Limits limits) {
  limits.resident_bytes = 1;
  try {
    Cache const cache(small, limits, ladder());
  } catch (CapacityError const& error) {
    return error.needed();
  }
  return 0;
}

/// A sequence's tokens go into a cache; what it was given is kept.
class Driver {
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
      auto const q = gpu::test::upload(rows.q);
      auto const k = gpu::test::upload(rows.k);
      auto const v = gpu::test::upload(rows.v);
      cache_.prefill_async<float>(layer, q, k, v, stream_);
      stream_.wait();
    }
    cache_.advance_async(stream_);
    stream_.wait();
  }

  /// One token of each of some sequences of one cache.
  static void step(std::vector<Driver*> const& batch) {
    Driver& first = *batch.front();
    std::vector<Sequence> handles;
    for (Driver const* driver : batch) {
      handles.push_back(driver->handle_);
    }
    first.cache_.begin_async(handles, first.stream_);
    for (int layer = 0; layer < 2; ++layer) {
      Rows rows;
      for (Driver* driver : batch) {
        append(rows, driver->next(layer, 1));
      }
      auto const q = gpu::test::upload(rows.q);
      auto const k = gpu::test::upload(rows.k);
      auto const v = gpu::test::upload(rows.v);
      gpu::DeviceArray<float> const out(rows.q.size());
      first.cache_.attend_async<float>(layer, q, k, v, out, first.stream_);
      first.stream_.wait();
    }
    first.cache_.advance_async(first.stream_);
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

  [[nodiscard]] StepReport report() const { return cache_.report(handle_); }

  /// Fidelities of all lanes, one behind another.
  [[nodiscard]] std::vector<Fidelity> fidelities() const {
    auto const length = static_cast<std::size_t>(cache_.length(handle_));
    std::vector<Fidelity> all;
    for (int lane = 0; lane < lanes; ++lane) {
      std::vector<Fidelity> one(length);
      cache_.fidelities(handle_, lane / 2, lane % 2, one, stream_);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  /// Protected rows are exact, the report counts what there is, rows are what they were.
  void check() const {
    auto const length = static_cast<std::size_t>(cache_.length(handle_));
    auto const found = fidelities();
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      auto const* const rows = found.data() + lane * length;
      for (std::size_t i = 0; i < length; ++i) {
        if (i < 4 || i + 16 >= length || i >= length / 64 * 64) {
          REQUIRE(rows[i] == Fidelity::exact);
        }
      }
    }
    for (std::size_t layer = 0; layer < 2; ++layer) {
      gpu::DeviceArray<Half> const k(k_[layer].size());
      gpu::DeviceArray<Half> const v(v_[layer].size());
      cache_.gather_async(handle_, static_cast<int>(layer), k.span(), v.span(), stream_);
      REQUIRE(same(gpu::test::download(k, stream_), k_[layer]));
      REQUIRE(same(gpu::test::download(v, stream_), v_[layer]));
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

  static bool same(std::vector<Half> const& found, std::vector<float> const& given) {
    return std::equal(found.begin(), found.end(), given.begin(), given.end(),
                      [](Half a, float b) { return to_float(a) == to_float(from_float<Half>(b)); });
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

  gpu::test::Stream stream_;
  Cache& cache_;
  Sequence handle_;
  std::vector<gpu::test::Model> models_;
  std::vector<std::vector<float>> k_;
  std::vector<std::vector<float>> v_;
};

}  // namespace

TEST_CASE("A byte cap holds from the first token to the last", "[budgets]") {
  Limits limits = budget_limits(384, 1);
  std::size_t const least = least_cap(limits);
  REQUIRE(least > 0);
  std::size_t const full = 384 * lanes * row_bytes;
  for (std::size_t const more : {std::size_t{0}, full / 4}) {
    limits.resident_bytes = least + more;
    Cache cache(small, limits, ladder());
    CHECK(cache.device_bytes() <= limits.resident_bytes);
    Driver driver(cache, 3);
    bool raised = false;
    driver.prefill(200);
    driver.check();
    for (int i = 0; i < 80; ++i) {
      Driver::step({&driver});
      StepReport const report = driver.report();
      REQUIRE(report.ledger.resident() <= limits.resident_bytes);
      raised = raised || report.binding == Binding::resident_bytes;
      if (i % 16 == 0) {
        driver.check();
        driver.check_report();
      }
    }
    CHECK(raised);
    CHECK(cache.device_bytes() <= limits.resident_bytes);
  }
}

TEST_CASE("A cap with room for everything decides as none", "[budgets]") {
  Limits const limits = budget_limits(384, 1);
  Limits wide = limits;
  wide.resident_bytes = std::size_t{1} << 28;
  auto twins = gpu::test::ladder_twins(small, wide, ladder(), NeverTrigger{}, limits);
  std::size_t const sequence = twins.open(4);
  twins.prefill(sequence, 150);
  for (int i = 0; i < 40; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).frozen > 0);
  check_launches(twins, sequence, 3, 3 + 2);  // and plans, and what gives way
}

TEST_CASE("A ladder that fills its cap decides as one with lower thresholds", "[budgets]") {
  Limits const limits = budget_limits(256, 1);
  Limits wide = limits;
  wide.resident_bytes = std::size_t{1} << 28;
  LadderScheduler<> filling = ladder();
  filling.fill = 0.25F;
  LadderScheduler<> low = ladder();
  low.none *= filling.fill;
  low.first *= filling.fill;
  low.second *= filling.fill;
  gpu::test::Twins<Cache> twins(
      gpu::test::make_ladder_twin<Half>(small, limits, low, NeverTrigger{}), small, wide, filling,
      NeverTrigger{});
  std::size_t const sequence = twins.open(5);
  twins.prefill(sequence, 130);
  gpu::test::decode(twins, sequence, 30);
  CHECK(twins.rows(sequence).frozen > 0);
  CHECK(twins.device().report(twins.handle(sequence)).water_level == low.none);
}

TEST_CASE("What a capped sequence keeps does not depend on the others", "[budgets]") {
  Limits limits = budget_limits(256, 2);
  limits.resident_bytes = least_cap(limits) + 256 * lanes * row_bytes / 3;
  Cache alone(small, limits, ladder());
  Cache shared(small, limits, ladder());
  Driver first(alone, 5);
  Driver second(shared, 5);
  Driver other(shared, 9);
  first.prefill(60);
  second.prefill(60);
  for (int i = 0; i < 60; ++i) {
    Driver::step({&first});
    if (i % 3 == 0) {
      Driver::step({&second});
      Driver::step({&other});
    } else {
      Driver::step({&other, &second});
    }
    if (i % 10 == 9) {
      REQUIRE(first.fidelities() == second.fidelities());
    }
  }
}

TEST_CASE("Truncation, pins, chunks and a reset under a cap", "[budgets]") {
  Limits limits = budget_limits(512, 1);
  limits.resident_bytes = least_cap(limits) + 512 * lanes * row_bytes / 4;
  Cache cache(small, limits, ladder());
  Driver driver(cache, 6);
  std::mt19937 random(11);
  int length = 0;
  for (int i = 0; i < 60; ++i) {
    int const what = static_cast<int>(random() % 12);
    if (what == 0 && length < 512 - 130) {
      int const tokens = 1 + static_cast<int>(random() % 128);
      driver.prefill(tokens);
      length += tokens;
    } else if (what == 1 && length > 10) {
      length -= static_cast<int>(random() % static_cast<unsigned>(std::min(length, 100)));
      driver.truncate(length);
    } else if (what == 2) {
      driver.pin({{length / 2, length / 2 + 3}});
    } else if (what == 3 && length < 100) {
      driver.thaw();
    } else if (length < 512) {
      Driver::step({&driver});
      length += 1;
      driver.check_report();
    }
    driver.check();
  }
  driver.prefill(512 - length);
  CHECK_THROWS_AS(driver.thaw(), CapacityError);
  driver.check();
}

TEST_CASE("A transfer budget bounds what a step moves", "[budgets]") {
  for (bool const capped : {false, true}) {
    Limits limits = budget_limits(512, 1);
    if (capped) {
      limits.resident_bytes = least_cap(limits) + 512 * lanes * row_bytes / 4;
    }
    limits.transfer_bytes = 3 * lanes * row_bytes;
    auto scheduler = ladder();
    scheduler.stay = 1;
    scheduler.every = 1;
    Cache cache(small, limits, scheduler);
    Driver driver(cache, 7);
    driver.prefill(200);
    std::uint64_t deferred = 0;
    std::uint64_t thawed = 0;
    for (int i = 0; i < 60; ++i) {
      Driver::step({&driver});
      StepReport const report = driver.report();
      REQUIRE(report.moved_in_bytes + report.moved_out_bytes <= limits.transfer_bytes);
      deferred += report.deferred_rows;
      thawed += report.thawed_rows;
    }
    driver.check();
    CHECK(deferred > 0);
    CHECK(thawed > 0);
  }
}

TEST_CASE("Budgets that cannot work are refused with the least", "[budgets]") {
  Limits limits = budget_limits(256, 2);
  std::size_t const least = least_cap(limits);
  limits.resident_bytes = least - 1;
  CHECK_THROWS_AS(Cache(small, limits, ladder()), CapacityError);
  limits.resident_bytes = least;
  CHECK_NOTHROW(Cache(small, limits, ladder()));
  Cache cache(small, limits, ladder());
  gpu::test::Stream const stream;
  Sequence const sequence = cache.open(stream);
  CHECK_NOTHROW(cache.begin_prefill_async(sequence, 256, stream));
  cache.close(sequence, stream);
  Limits wide = budget_limits(1024, 1);
  wide.resident_bytes = least_cap(wide);
  Cache large(small, wide, ladder());
  Sequence const other = large.open(stream);
  CHECK_THROWS_AS(large.begin_prefill_async(other, 513, stream), InvalidArgument);
  large.close(other, stream);
  limits.transfer_bytes = 2 * lanes * row_bytes - 1;
  CHECK_THROWS_AS(Cache(small, limits, ladder()), InvalidArgument);
}
