#include <kvfreeze/gpu/detail/block_cache.hpp>

#include <catch2/catch.hpp>

#include <cstdint>
#include <vector>

using kvfreeze::gpu::detail::BlockCache;
using kvfreeze::gpu::detail::PlaceState;

namespace {

/// All places in use by the blocks 10, 11, ... that are clean and stamped 1, 2, ...
BlockCache full_cache(std::uint32_t places, std::vector<std::uint32_t>& stamps) {
  BlockCache cache(100, places);
  for (std::uint32_t i = 0; i < places; ++i) {
    std::uint32_t const at = cache.take(10 + i, PlaceState::clean);
    stamps[at] = 1 + i;
  }
  return cache;
}

}  // namespace

TEST_CASE("A block is visible where it is, but not while it loads") {
  BlockCache cache(8, 2);
  CHECK(cache.where(3) == BlockCache::nowhere);
  CHECK(cache.visible(3) == BlockCache::nowhere);
  std::uint32_t const at = cache.take(3, PlaceState::loading);
  CHECK(cache.where(3) == at);
  CHECK(cache.visible(3) == BlockCache::nowhere);
  cache.place(at).state = PlaceState::clean;
  CHECK(cache.visible(3) == at);
  cache.leave(at, BlockCache::below, 5);
  CHECK(cache.where(3) == BlockCache::below);
  CHECK(cache.visible(3) == BlockCache::nowhere);
  cache.forget(3);
  CHECK(cache.where(3) == BlockCache::nowhere);
}

TEST_CASE("A place is free again when the steps that know it have passed") {
  BlockCache cache(8, 2);
  std::uint32_t const first = cache.take(1, PlaceState::clean);
  std::uint32_t const second = cache.take(2, PlaceState::clean);
  CHECK(cache.free_places() == 0);
  cache.leave(first, BlockCache::below, 7);
  cache.leave(second, BlockCache::nowhere, 9);
  cache.release(6);
  CHECK(cache.free_places() == 0);
  CHECK(cache.leaving() == 2);
  cache.release(8);
  CHECK(cache.free_places() == 1);
  CHECK(cache.take(5, PlaceState::filling) == first);
  cache.release(9);
  CHECK(cache.free_places() == 1);
  CHECK(cache.leaving() == 0);
}

TEST_CASE("Who was needed since the hand came last stays") {
  std::vector<std::uint32_t> stamps(4);
  BlockCache cache = full_cache(4, stamps);
  std::size_t visits = 4;
  CHECK(cache.victim(stamps.data(), 0, BlockCache::nowhere, visits) ==
        BlockCache::nowhere);  // all are new to the hand
  CHECK(visits == 0);
  stamps[0] = 9;
  stamps[2] = 9;
  visits = 4;
  CHECK(cache.victim(stamps.data(), 0, BlockCache::nowhere, visits) == 1);
  CHECK(visits == 2);
  CHECK(cache.victim(stamps.data(), 0, BlockCache::nowhere, visits) == 3);
  CHECK(visits == 0);
  visits = 1;
  CHECK(cache.victim(stamps.data(), 0, BlockCache::nowhere, visits) == 0);
}

TEST_CASE("What is being written or moved does not leave") {
  std::vector<std::uint32_t> stamps(5);
  BlockCache cache = full_cache(5, stamps);
  std::size_t visits = 5;
  static_cast<void>(cache.victim(stamps.data(), 0, BlockCache::nowhere, visits));
  cache.place(0).state = PlaceState::filling;
  cache.place(1).state = PlaceState::storing;
  cache.place(2).state = PlaceState::loading;
  cache.place(3).state = PlaceState::dirty;
  cache.place(3).after = 4;
  cache.leave(4, BlockCache::below, 100);
  visits = 10;
  CHECK(cache.victim(stamps.data(), 3, BlockCache::nowhere, visits) == BlockCache::nowhere);
  visits = 5;
  CHECK(cache.victim(stamps.data(), 4, BlockCache::nowhere, visits) == 3);
}

TEST_CASE("What a step wants, or somebody keeps, does not leave") {
  std::vector<std::uint32_t> stamps(4);
  BlockCache cache = full_cache(4, stamps);
  stamps = {6, 7, 8, 5};
  std::size_t visits = 4;
  static_cast<void>(cache.victim(stamps.data(), 0, BlockCache::nowhere, visits));
  cache.place(3).kept = true;
  visits = 8;
  CHECK(cache.victim(stamps.data(), 0, 7, visits) == 0);
  CHECK(cache.victim(stamps.data(), 0, 6, visits) == BlockCache::nowhere);
  CHECK(cache.bound_places(stamps.data(), 0, 7) == 2);
  CHECK(cache.bound_places(stamps.data(), 0, BlockCache::nowhere) == 0);
  cache.place(0).state = PlaceState::filling;
  cache.place(3).state = PlaceState::dirty;
  cache.place(3).after = 4;
  CHECK(cache.bound_places(stamps.data(), 3, BlockCache::nowhere) == 2);
  CHECK(cache.bound_places(stamps.data(), 4, BlockCache::nowhere) == 1);
}
