#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"
#include "ladder_caches.hpp"

#include <functional>

using namespace kvfreeze;

namespace {

/// A tier that lets one look whenever rows come or go: in the middle of a step.
struct Watched : HostTier {
  void store(std::span<StoreRequest const> batch) {
    watch();
    HostTier::store(batch);
  }

  void load(std::span<LoadRequest const> batch) {
    watch();
    HostTier::load(batch);
    watch();
  }

  std::function<void()> look;

 private:
  void watch() const {
    if (look) {
      look();
    }
  }
};

template <class Cache>
std::size_t committed(Cache const& cache) {
  auto const regions = cache.memory().regions();
  std::size_t sum = 0;
  for (auto const* region : {regions.rows, regions.cards, regions.digests, regions.tiles,
                             regions.headers, regions.queries}) {
    sum += laws::committed_bytes(*region);
  }
  for (int part = 0; part < cache.limits().parts; ++part) {
    sum += laws::committed_bytes(cache.memory().scratch(part).memory());
  }
  return sum;
}

/// Bytes by which lanes of a sequence exceed what they were given.
template <class Cache>
std::size_t over_budget(Cache const& cache, Sequence sequence) {
  host::Geometry const& g = cache.memory().geometry();
  std::size_t over = 0;
  for (std::uint32_t lane = 0; lane < static_cast<std::uint32_t>(g.lanes); ++lane) {
    auto const ref = cache.memory().lane(sequence.index, lane);
    std::size_t const held = g.arena.bytes(ref.held_blocks()) + g.lane_tiles_bytes(ref.lane->rows);
    over += std::max(held, ref.lane->budget) - ref.lane->budget;
  }
  return over;
}

/// Asks at every turn of the tier whether the caps hold.
template <class Cache>
class Guard {
 public:
  explicit Guard(Cache& cache) : cache_(&cache) {
    cache.tier().look = [this] { look(); };
  }

  Guard(Guard const&) = delete;
  Guard& operator=(Guard const&) = delete;

  ~Guard() { cache_->tier().look = nullptr; }

  void watch(Sequence sequence) {
    sequence_ = sequence;
    lanes_ = true;
  }

  /// From here on the cap alone: lanes make room for a new sequence one after the other.
  void watch_cap_only() { lanes_ = false; }

  /// How often it looked.
  [[nodiscard]] int check() {
    look();
    laws::ledger_is_what_the_system_committed(*cache_);
    CHECK(highest_ <= cache_->limits().resident_bytes);
    CHECK(over_ == 0);
    return looks_;
  }

 private:
  void look() {
    highest_ = std::max(highest_, committed(*cache_));
    over_ = lanes_ ? std::max(over_, over_budget(*cache_, sequence_)) : over_;
    looks_ += 1;
  }

  Cache* cache_;
  Sequence sequence_;
  bool lanes_ = false;
  std::size_t highest_ = 0;
  std::size_t over_ = 0;
  int looks_ = 0;
};

/// @brief Sequences that grow, shrink, come and go, in a cache that holds all rows or much less.
/// @return how often rows came or went
template <class Cache>
int the_cap_holds_at_all_times(laws::Settings<Cache> const& settings) {
  Shape const shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 64};
  Limits limits = laws::cache_limits();
  limits.parts = 1;
  std::size_t const least = laws::least_cap<Cache>(settings, limits, shape);
  int looks = 0;
  for (std::size_t const pages : {0U, 1U, 2U, 4U, 7U, 11U}) {
    limits.resident_bytes = least + pages * host::page_bytes;
    CAPTURE(pages, limits.resident_bytes);
    auto cache = laws::make_cache<Cache>(settings, limits, shape);
    kvfreeze_test::CheckedSequence<Cache> sequence(cache, 40 + pages);
    Guard<Cache> guard(cache);
    guard.watch(sequence.handle());
    sequence.attend(250);
    for (int i = 0; i < 70; ++i) {
      sequence.attend(1);
      looks += guard.check();
    }
    sequence.truncate(sequence.length() - 33);
    sequence.attend(40);
    for (int i = 0; i < 50; ++i) {
      sequence.attend(1);
      looks += guard.check();
    }
  }
  return looks;
}

/// The same with a second sequence, which takes half the bytes and gives them back.
template <class Cache>
void a_share_that_shrinks_is_met(laws::Settings<Cache> const& settings) {
  Limits limits = laws::cache_limits();
  limits.resident_bytes = 2 * laws::least_cap<Cache>(settings, limits) -
                          laws::make_cache<Cache>(settings).memory().scratch_bytes(512);
  auto cache = laws::make_cache<Cache>(settings, limits);
  kvfreeze_test::CheckedSequence<Cache> first(cache, 40);
  Guard<Cache> guard(cache);
  guard.watch(first.handle());
  first.attend(130);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 25; ++i) {
      first.attend(1);
      static_cast<void>(guard.check());
    }
    guard.watch_cap_only();
    kvfreeze_test::CheckedSequence<Cache> second(cache, 50);
    guard.watch(first.handle());
    second.attend(70 * (round + 1));
    first.attend(1);
    second.attend(1);
    static_cast<void>(guard.check());
    first.truncate(first.length() - 30 * round - 3);
    first.attend(20);
    second.close();
    static_cast<void>(guard.check());
  }
}

}  // namespace

TEST_CASE("the cap holds within a step: KvFreeze", "[laws][cache][ladder][arena]") {
  using Cache = presets::KvFreeze<Half, Watched>;
  CHECK(the_cap_holds_at_all_times<Cache>({.scheduler = {.stay = 1, .every = 1, .dense = false}}) >
        1000);
  CHECK(the_cap_holds_at_all_times<Cache>({.scheduler = {.stay = 2, .every = 3, .dense = false}}) >
        1000);
  the_cap_holds_at_all_times<Cache>({});
  a_share_that_shrinks_is_met<Cache>({.scheduler = {.dense = false}});
  a_share_that_shrinks_is_met<Cache>({});
}

TEST_CASE("the cap holds within a step: all levels, granules of 4",
          "[laws][cache][ladder][arena]") {
  using Cache = laws::FourLevels<BFloat16, 4, Grouping::kv_head, Watched>;
  CHECK(the_cap_holds_at_all_times<Cache>({.scheduler = {.none = 0.02F,
                                                         .first = 0.1F,
                                                         .second = 0.3F,
                                                         .third = 0.6F,
                                                         .stay = 1,
                                                         .every = 2,
                                                         .dense = false}}) > 1000);
}

TEST_CASE("the cap holds within a step: UniformQuantised", "[laws][cache][ladder][arena]") {
  CHECK(the_cap_holds_at_all_times<presets::UniformQuantised<4, Half, Watched>>({}) > 100);
}

// What is judged is what is resident: a lane in a steady state has one page that is not full, and
// little that lies idle.
TEST_CASE("lanes of the ladder lie packed", "[laws][cache][ladder][arena]") {
  using Cache = presets::KvFreeze<>;
  auto cache = laws::make_cache<Cache>({.scheduler = {.dense = false}});
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 6);
  sequence.attend(300);
  host::Geometry const& g = cache.memory().geometry();
  for (int i = 0; i < 100; ++i) {
    sequence.attend(1);
    std::size_t idle = 0;
    for (std::uint32_t lane = 0; lane < static_cast<std::uint32_t>(g.lanes); ++lane) {
      auto const ref = cache.memory().lane(sequence.handle().index, lane);
      idle += g.arena.bytes(ref.held_blocks()) - g.arena.bytes(ref.needed_blocks());
    }
    CHECK(idle <= static_cast<std::size_t>(g.lanes) * host::page_bytes);
  }
}

// Buffers of chunks are there while there are chunks.
TEST_CASE("single tokens need less work space than chunks", "[laws][cache][arena]") {
  auto cache = laws::make_cache<presets::KvFreeze<>>({});
  kvfreeze_test::CheckedSequence<presets::KvFreeze<>> sequence(cache, 6);
  sequence.attend(200);
  std::size_t const chunk = cache.ledger().scratch;
  sequence.attend(1);
  std::size_t const token = cache.ledger().scratch;
  CHECK(token < chunk);
  laws::ledger_is_what_the_system_committed(cache);
  sequence.attend(9);
  CHECK(cache.ledger().scratch <= chunk);
  CHECK(cache.ledger().scratch > token);
  sequence.attend(1);
  CHECK(cache.ledger().scratch == token);
  laws::ledger_is_what_the_system_committed(cache);
}
