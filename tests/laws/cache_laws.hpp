#pragma once

/// @file
/// @brief What every cache has to obey, whatever its policies: `kvfreeze::laws::cache<MyCache>()`.
///
/// The laws are those of the design; a policy of one's own is tested by naming it in a cache.

#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/tier/fault_injecting.hpp>
#include <kvfreeze/tier/statistics.hpp>

#include "../support/checked_cache.hpp"
#include "../support/counting_new.hpp"
#include "random.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <functional>
#include <sys/mman.h>
#include <thread>
#include <type_traits>
#include <vector>

namespace kvfreeze::laws {

/// Three KV heads, so that parts have unequal shares.
inline constexpr Shape cache_shape{.layers = 2, .query_heads = 6, .kv_heads = 3, .head_dim = 16};

inline Limits cache_limits() {
  Limits limits;
  limits.max_tokens = 512;
  limits.max_sequences = 2;
  limits.sinks = 3;
  limits.window = 7;
  limits.parts = 3;
  return limits;
}

/// The policies of a cache that have settings worth changing.
template <class Cache>
struct Settings {
  typename Cache::scheduler_type scheduler{};
  typename Cache::trigger_type trigger{};
};

template <class Cache>
Cache make_cache(Settings<Cache> const& settings, Limits const& limits = cache_limits(),
                 Shape const& shape = cache_shape) {
  return Cache(shape, limits, {}, settings.scheduler, typename Cache::tier_type(),
               settings.trigger);
}

/// The least `resident_bytes` that a cache accepts.
template <class Cache>
std::size_t least_cap(Settings<Cache> const& settings, Limits limits = cache_limits(),
                      Shape const& shape = cache_shape) {
  limits.resident_bytes = 1;
  try {
    static_cast<void>(make_cache<Cache>(settings, limits, shape));
  } catch (CapacityError const& error) {
    return error.needed();
  }
  return 1;
}

// --- law 1 --------------------------------------------------------------------------------------

/// @brief One story with prefill, decoding, a foreign kernel and truncation. Every row is compared
/// after every call.
/// @param thaw_at_end off where a cap does not hold all rows
template <class Cache>
void tell_a_story(kvfreeze_test::CheckedSequence<Cache>& sequence, bool thaw_at_end = true) {
  auto const decode = [&](int steps) {
    for (int i = 0; i < steps; ++i) {
      sequence.attend(1);
    }
  };
  sequence.attend(45);
  decode(30);
  sequence.attend(11);
  for (int i = 0; i < 3; ++i) {
    sequence.append_and_observe(1, i);
  }
  sequence.truncate(sequence.length() - 9);
  decode(3);
  sequence.truncate(sequence.length() - 34);
  decode(3);
  if (thaw_at_end) {
    sequence.thaw();
    decode(2);
  }
}

/// @brief The same over several groups of the digest, with pins.
template <class Cache>
void tell_a_longer_story(kvfreeze_test::CheckedSequence<Cache>& sequence, bool thaw_at_end = true) {
  auto const decode = [&](int steps) {
    for (int i = 0; i < steps; ++i) {
      sequence.attend(1);
    }
  };
  sequence.attend(150);
  decode(25);
  sequence.pin({{20, 30}, {90, 91}, {200, 230}});
  decode(5);
  sequence.attend(67);
  decode(9);
  sequence.pin({});
  for (int i = 0; i < 6; ++i) {
    sequence.append_and_observe(1, i % 3);
  }
  sequence.truncate(sequence.length() - 50);
  decode(10);
  sequence.truncate(129);
  decode(4);
  sequence.truncate(70);
  decode(4);
  sequence.attend(33);
  decode(20);
  if (thaw_at_end) {
    sequence.thaw();
    decode(9);
  }
}

/// @brief Whichever call of the tier fails: a typed error, no row lost, and the call can be
/// repeated. @return calls that were made to fail
template <class Cache>
int every_fault_is_survived(Settings<Cache> const& settings, Limits const& limits) {
  Shape const shape{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 8};
  bool const capped = limits.resident_bytes != unlimited;
  for (int n = 1;; ++n) {
    CAPTURE(n);
    auto cache = make_cache<Cache>(settings, limits, shape);
    cache.tier().arm({.call = static_cast<std::uint64_t>(n)});
    kvfreeze_test::CheckedSequence<Cache> sequence(cache, 5);
    sequence.survive_faults();
    tell_a_story(sequence, !capped);
    if (sequence.faults() == 0) {
      return n - 1;
    }
    REQUIRE(sequence.faults() == 1);
    sequence.check();
    if (!capped) {
      sequence.thaw_and_compare(1);
    }
  }
}

/// A tier that stays out of order: nothing more can freeze, nothing frozen is lost.
template <class Cache>
void a_broken_tier_loses_nothing(Settings<Cache> const& settings) {
  auto cache = make_cache<Cache>(settings);
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 8);
  sequence.attend(60);
  sequence.survive_faults();
  cache.tier().arm({.call = 1, .in_load = false, .persistent = true});
  for (int i = 0; i < 10; ++i) {
    sequence.attend(1);
  }
  cache.tier().disarm();
  sequence.attend(1);
  sequence.thaw();
}

// --- law 4 --------------------------------------------------------------------------------------

inline std::size_t committed_bytes(host::VirtualMemory const& memory) {
  if (memory.size() == 0) {
    return 0;
  }
  std::size_t const page = host::VirtualMemory::page_bytes();
  std::vector<unsigned char> pages(memory.size() / page);
  REQUIRE(::mincore(memory.data(), memory.size(), pages.data()) == 0);
  return page * static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(),
                                                       [](auto p) { return (p & 1U) != 0; }));
}

template <class Cache>
void ledger_is_what_the_system_committed(Cache const& cache) {
  Ledger const ledger = cache.ledger();
  auto const regions = cache.memory().regions();
  std::size_t const states = committed_bytes(*regions.tiles) + committed_bytes(*regions.headers);
  if constexpr (kvfreeze_test::has_compact_rows<Cache>) {  // a lane's last page is metadata
    CHECK(regions.digests->size() + regions.cards->size() == 0);
    CHECK(ledger.rows + ledger.digests + ledger.codes + ledger.metadata ==
          committed_bytes(*regions.rows) + states);
  } else {
    CHECK(ledger.rows == committed_bytes(*regions.rows));
    CHECK(ledger.digests == committed_bytes(*regions.digests));
    CHECK(ledger.codes == 0);
    CHECK(ledger.metadata == committed_bytes(*regions.cards) + states);
  }
  std::size_t scratch = committed_bytes(*regions.queries);
  for (int part = 0; part < cache.limits().parts; ++part) {
    scratch += committed_bytes(cache.memory().scratch(part).memory());
  }
  CHECK(ledger.scratch == scratch);
  CHECK(ledger.tier == cache.tier().bytes());
}

/// @param cap bytes, or unlimited
template <class Cache>
void bytes_are_counted_and_capped(Settings<Cache> const& settings, std::size_t cap) {
  Limits limits = cache_limits();
  limits.resident_bytes = cap;
  CAPTURE(cap);
  auto cache = make_cache<Cache>(settings, limits);
  ledger_is_what_the_system_committed(cache);
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 3);
  ledger_is_what_the_system_committed(cache);
  std::size_t highest = 0;
  for (int i = 0; i < 40; ++i) {
    sequence.attend(i % 10 == 0 ? 37 : 1, {}, {0, 1 + i % 3});
    if (i % 15 == 14) {
      sequence.truncate(sequence.length() - 20);
    }
    ledger_is_what_the_system_committed(cache);
    highest = std::max(highest, cache.ledger().resident());
  }
  if (detail::tier_kind<typename Cache::tier_type>() != TierKind::in_place) {
    REQUIRE(highest <= cap);
  }
  sequence.close();
  ledger_is_what_the_system_committed(cache);
  REQUIRE(cache.ledger().tier == 0);
}

// --- law 5 --------------------------------------------------------------------------------------

/// No allocation once the cache is there and the sequence open.
template <class Cache>
void the_hot_path_does_not_allocate(Settings<Cache> const& settings) {
  Limits limits = cache_limits();
  auto cache = make_cache<Cache>(settings, limits);
  Sequence const sequence = cache.open();
  kvfreeze_test::InputStream stream(cache_shape, 17);
  std::vector<kvfreeze_test::LayerInput> inputs;
  for (int i = 0; i < 120; ++i) {
    inputs.push_back(stream.next(i % 40 == 0 ? 50 : 1));
  }
  std::vector<float> const logits(100, 1.0F);
  auto const before = kvfreeze_test::allocations();
  for (auto& input : inputs) {
    for (int layer = 0; layer < cache_shape.layers; ++layer) {
      if (input.q.size() == 96 && layer == 1) {  // one layer through a kernel of one's own
        cache.append(sequence, layer, input.k, input.v);
        cache.recall(sequence, layer, input.q);
        static_cast<void>(cache.view(sequence, layer, 0));
        cache.observe(sequence, layer, input.q);
      } else {
        cache.attend(sequence, layer, input.q, input.k, input.v, input.out);
      }
    }
    static_cast<void>(cache.advance(sequence, logits));
  }
  cache.truncate(sequence, cache.length(sequence) - 10);
  cache.thaw(sequence);
  Sequence const other = cache.open();
  cache.close(sequence);
  cache.close(other);
  auto const after = kvfreeze_test::allocations();
  CHECK(after.calls - before.calls == 0);
  CHECK(after.live_bytes == before.live_bytes);
}

// --- law 6 --------------------------------------------------------------------------------------

/// What a run decided and computed, step by step.
struct Trace {
  std::vector<std::vector<Fidelity>> fidelities;
  std::vector<std::vector<float>> outputs;
};

/// The first difference is said in few words.
inline void require_same(Trace const& actual, Trace const& expected) {
  REQUIRE(actual.fidelities.size() == expected.fidelities.size());
  for (std::size_t step = 0; step < actual.fidelities.size(); ++step) {
    auto const& a = actual.fidelities[step];
    auto const& b = expected.fidelities[step];
    REQUIRE(a.size() == b.size());
    auto const at = std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin();
    CAPTURE(step, at, a.size());
    REQUIRE(at == std::ssize(a));
  }
  REQUIRE(actual.outputs.size() == expected.outputs.size());
  for (std::size_t call = 0; call < actual.outputs.size(); ++call) {
    CAPTURE(call);
    REQUIRE((actual.outputs[call] == expected.outputs[call]));
  }
}

/// How a run drives the cache.
struct Driving {
  int parts = 1;
  bool threads = false;  ///< one for each part
  bool company = false;  ///< another sequence between the layers
  bool foreign = false;  ///< append, recall, observe; no outputs
};

/// Runs f(part) for each part, on threads of their own if asked to.
inline void for_parts(Driving const& driving, std::function<void(Part)> const& f) {
  std::vector<std::thread> threads;
  for (int i = 0; i < driving.parts; ++i) {
    if (driving.threads) {
      threads.emplace_back(f, Part{i, driving.parts});
    } else {
      f({i, driving.parts});
    }
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

template <class Cache>
Trace trace(Settings<Cache> const& settings, Driving const& driving, int steps = 70) {
  Limits limits = cache_limits();
  limits.parts = std::max(limits.parts, driving.parts);
  auto cache = make_cache<Cache>(settings, limits);
  Sequence const sequence = cache.open();
  Sequence const companion = driving.company ? cache.open() : Sequence{};
  kvfreeze_test::InputStream stream(cache_shape, 23);
  kvfreeze_test::InputStream other(cache_shape, 24);
  Random random(25);
  Trace result;
  for (int step = 0; step < steps; ++step) {
    int const tokens = step == 0 ? 60 : step == 40 && !driving.foreign ? 20 : 1;
    bool const foreign = driving.foreign && tokens == 1;
    for (int layer = 0; layer < cache_shape.layers; ++layer) {
      auto input = stream.next(tokens);
      for_parts(driving, [&](Part part) {
        if (foreign) {
          cache.append(sequence, layer, input.k, input.v, part);
          cache.recall(sequence, layer, input.q, part);
          cache.observe(sequence, layer, input.q, {}, {}, part);
        } else {
          cache.attend(sequence, layer, input.q, input.k, input.v, input.out, part);
        }
      });
      if (!driving.foreign) {
        result.outputs.push_back(input.out);
      }
      if (driving.company) {
        auto theirs = other.next(2);
        cache.attend(companion, layer, theirs.q, theirs.k, theirs.v, theirs.out);
      }
    }
    std::vector<float> logits(64);
    for (float& x : logits) {
      x = 4.0F * random.uniform();
    }
    static_cast<void>(cache.advance(sequence, logits));
    if (driving.company) {
      static_cast<void>(cache.advance(companion, logits));
    }
    result.fidelities.push_back(kvfreeze_test::all_fidelities(cache, sequence));
  }
  return result;
}

template <class Cache>
void the_same_answer_however_it_is_driven(Settings<Cache> const& settings, bool threads) {
  Trace const expected = trace<Cache>(settings, {});
  auto const& last = expected.fidelities.back();
  REQUIRE((std::count(last.begin(), last.end(), Fidelity::exact) < std::ssize(last) ||
           std::is_same_v<typename Cache::scheduler_type, KeepAllScheduler>));
  for (int const parts : {2, 3, 8}) {
    require_same(trace<Cache>(settings, {.parts = parts, .threads = threads}), expected);
  }
  require_same(trace<Cache>(settings, {.company = true}), expected);
}

/// A kernel of one's own gets the decisions that attend() makes.
template <class Cache>
void a_foreign_kernel_changes_no_decision(Settings<Cache> const& settings) {
  Trace const ours = trace<Cache>(settings, {}, 39);
  Trace const theirs = trace<Cache>(settings, {.foreign = true}, 39);
  require_same({.fidelities = theirs.fidelities, .outputs = {}},
               {.fidelities = ours.fidelities, .outputs = {}});
}

// --- law 7 --------------------------------------------------------------------------------------

/// Bytes moved in a step stay within the budget of its tokens, and the report tells the truth.
template <class Cache>
void traffic_is_bounded(Settings<Cache> const& settings) {
  Limits limits = cache_limits();
  std::size_t const granule = 2U * 16U * sizeof(typename Cache::element_type) *
                              static_cast<std::size_t>(Cache::layout_type::page_tokens) *
                              (Cache::layout_type::grouping == Grouping::layer ? 3U : 1U);
  auto const lanes = static_cast<std::size_t>(
      cache_shape.layers * (Cache::layout_type::grouping == Grouping::layer ? 1 : 3));
  for (std::size_t const granules : {lanes, lanes + 1, 3 * lanes}) {
    CAPTURE(granules);
    limits.transfer_bytes = granules * granule;
    auto cache = make_cache<Cache>(settings, limits);
    kvfreeze_test::CheckedSequence<Cache> sequence(cache, 31);
    bool deferred = false;
    for (int step = 0; step < 100; ++step) {
      int const tokens = step % 33 == 0 ? 70 : 1;
      cache.tier().reset();
      auto const report = sequence.attend(tokens);
      auto const& counts = cache.tier().counts();
      CAPTURE(step, report.moved_in_bytes, report.moved_out_bytes);
      REQUIRE(report.moved_in_bytes == counts.load.bytes);
      REQUIRE(report.moved_out_bytes == counts.store.bytes);
      REQUIRE(report.moved_in_bytes + report.moved_out_bytes <=
              limits.transfer_bytes * static_cast<std::size_t>(tokens));
      deferred = deferred || report.deferred_rows > 0;
    }
    sequence.thaw();
  }
}

/// Uncapped, what came back stays for `stay` steps.
template <class Cache>
void what_was_thawed_stays(Settings<Cache> const& settings, int stay) {
  auto cache = make_cache<Cache>(settings);
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 37);
  sequence.attend(100);
  std::size_t const lanes = 6;
  std::vector<std::vector<int>> thawed(lanes, std::vector<int>(512, -1000));
  auto before = kvfreeze_test::all_fidelities(cache, sequence.handle());
  int returns = 0;
  for (int step = 0; step < 120; ++step) {
    auto const old_length = before.size() / lanes;
    sequence.attend(1);
    auto const now = kvfreeze_test::all_fidelities(cache, sequence.handle());
    auto const length = now.size() / lanes;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      for (std::size_t i = 0; i < old_length; ++i) {
        bool const was = before[lane * old_length + i] == Fidelity::exact;
        bool const is = now[lane * length + i] == Fidelity::exact;
        if (!was && is) {
          thawed[lane][i] = step;
          returns += 1;
        }
        if (was && !is) {
          CAPTURE(lane, i, step, thawed[lane][i]);
          REQUIRE(step - thawed[lane][i] >= stay);
        }
      }
    }
    before = now;
  }
  REQUIRE(returns > 0);
}

/// @brief The laws that every cache obeys. Tiers that fail, count or race have laws of their own
/// above.
template <class Cache>
void cache(Settings<Cache> const& settings = {}) {
  {
    auto fresh = make_cache<Cache>(settings);
    kvfreeze_test::CheckedSequence<Cache> sequence(fresh, 1);
    tell_a_story(sequence, true);
    if (detail::is_lossless<typename Cache::tier_type>()) {
      sequence.thaw_and_compare(1);
      sequence.thaw_and_compare(19);
    }
  }
  std::size_t const least = least_cap<Cache>(settings);
  bytes_are_counted_and_capped<Cache>(settings, unlimited);
  bytes_are_counted_and_capped<Cache>(settings, least);
  bytes_are_counted_and_capped<Cache>(settings, least + (1U << 16));
  the_hot_path_does_not_allocate<Cache>(settings);
  the_same_answer_however_it_is_driven<Cache>(settings, false);
  a_foreign_kernel_changes_no_decision<Cache>(settings);
}

}  // namespace kvfreeze::laws
