#include <kvfreeze/host/lane_arena.hpp>
#include <kvfreeze/host/virtual_memory.hpp>

#include "../../laws/random.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sys/mman.h>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::host;

namespace {

constexpr std::size_t first_pool = 2;

/// Digest groups that are no multiple of the alignment, blocks of a lane of 64 channels.
ArenaGeometry some_arena() {
  ArenaGeometry g;
  g.head_bytes = 256;
  g.block_bytes = {1096, 4224, 1728, 1216, 640};
  return g;
}

std::size_t committed(VirtualMemory const& memory) {
  std::vector<unsigned char> pages(memory.size() / page_bytes);
  REQUIRE(::mincore(memory.data(), memory.size(), pages.data()) == 0);
  return page_bytes * static_cast<std::size_t>(std::count_if(
                          pages.begin(), pages.end(), [](auto page) { return (page & 1U) != 0; }));
}

/// An arena, and what should be in its blocks.
class Arena {
 public:
  Arena() : g_(some_arena()), memory_(VirtualMemory::reserve(1U << 21)) {}

  void resize(ArenaBlocks const& to) {
    lay_out(g_, memory_.data(), blocks_, to);
    std::size_t const old = g_.bytes(blocks_);
    std::size_t const now = g_.bytes(to);
    memory_.release(now, std::max(old, now) - now);
    for (std::size_t segment = 0; segment < arena_segments; ++segment) {
      auto const n = static_cast<std::size_t>(to[segment]);
      auto& marks = marks_[segment];
      CAPTURE(segment, marks.size(), n);
      for (std::size_t block = 0; block < n; ++block) {
        check(to, segment, block, block < marks.size() ? marks[block] : std::byte{0});
      }
      marks.resize(std::min(marks.size(), n));
      while (marks.size() < n) {
        marks.push_back(static_cast<std::byte>(1 + random_() % 255U));
        std::byte* const at = block_of(to, segment, marks.size() - 1);
        std::fill_n(at, g_.block_bytes[segment], marks.back());
      }
    }
    blocks_ = to;
    CHECK(committed(memory_) == g_.bytes(blocks_));
  }

  [[nodiscard]] ArenaBlocks const& blocks() const { return blocks_; }

 private:
  [[nodiscard]] std::byte* block_of(ArenaBlocks const& blocks, std::size_t segment,
                                    std::size_t block) const {
    std::size_t const start = ArenaStarts::of(g_, blocks)[segment];
    CHECK(start % ArenaGeometry::alignment == 0);
    std::size_t const head = segment == arena_digests ? g_.head_bytes : 0;
    return memory_.data() + start + head + block * g_.block_bytes[segment];
  }

  void check(ArenaBlocks const& blocks, std::size_t segment, std::size_t block,
             std::byte mark) const {
    std::byte const* const at = block_of(blocks, segment, block);
    CAPTURE(block);
    REQUIRE(std::all_of(at, at + g_.block_bytes[segment], [=](std::byte b) { return b == mark; }));
  }

  ArenaGeometry g_;
  VirtualMemory memory_;
  ArenaBlocks blocks_{};
  std::array<std::vector<std::byte>, arena_segments> marks_;
  laws::Random random_{5};
};

}  // namespace

TEST_CASE("an arena keeps its contents, whatever grows and shrinks", "[host][lane_arena]") {
  Arena arena;
  laws::Random random(3);
  for (int step = 0; step < 600; ++step) {
    CAPTURE(step);
    ArenaBlocks to = arena.blocks();
    // One segment as a rule; now and then all at once, in different directions.
    bool const all = random() % 8U == 0;
    for (std::size_t segment = 0; segment < arena_segments; ++segment) {
      if (all || random() % arena_segments == 0) {
        int const change = static_cast<int>(random() % 9U) - 4;
        to[segment] = std::clamp(to[segment] + change, 0, 40);
      }
    }
    arena.resize(to);
  }
  arena.resize({});
}

TEST_CASE("an arena's segments lie packed", "[host][lane_arena]") {
  ArenaGeometry const g = some_arena();
  ArenaBlocks const blocks{3, 2, 0, 5, 1};
  auto const starts = ArenaStarts::of(g, blocks);
  CHECK(starts[arena_digests] == 0);
  CHECK(starts[arena_rows] == 3584);  // 256 + 3 * 1096, rounded up to 64
  CHECK(starts[arena_pool(2)] == 3584 + 2 * 4224);
  CHECK(starts[arena_pool(1)] == 3584 + 2 * 4224);
  CHECK(starts[arena_pool(0)] == 3584 + 2 * 4224 + 5 * 1216);
  CHECK(g.packed_bytes(blocks) == 3584 + 2 * 4224 + 5 * 1216 + 640);
  CHECK(g.bytes(blocks) == 5 * page_bytes);
  CHECK(g.bytes({}) == 0);
  CHECK(arena_pool(0) == arena_segments - 1);
  CHECK(arena_pool(most_levels - 1) == first_pool);
}

TEST_CASE("the most blocks that fit", "[host][lane_arena]") {
  ArenaGeometry const g = some_arena();
  for (std::size_t const segment : {arena_rows, arena_pool(0), arena_pool(2)}) {
    for (std::size_t bytes = 0; bytes < 100000; bytes += 1777) {
      ArenaBlocks blocks{7, 3, 2, 1, 5};
      int const most = g.most_blocks(blocks, segment, bytes);
      CAPTURE(segment, bytes, most);
      blocks[segment] = most;
      CHECK((most == 0 || g.bytes(blocks) <= bytes));
      blocks[segment] = most + 1;
      CHECK(g.bytes(blocks) > bytes);
    }
  }
}

TEST_CASE("an arena is loose from a page on that it does not need", "[host][lane_arena]") {
  ArenaGeometry const g = some_arena();
  double const little = ArenaGeometry::little;
  CHECK_FALSE(g.is_loose({0, 1, 0, 0, 0}, {0, 1, 0, 0, 0}, ArenaGeometry::any));
  CHECK_FALSE(g.is_loose({0, 0, 0, 0, 6}, {0, 0, 0, 0, 2}, ArenaGeometry::any));
  CHECK(g.is_loose({0, 0, 0, 0, 7}, {0, 0, 0, 0, 2}, little));
  CHECK(g.is_loose({0, 0, 0, 0, 7}, {0, 0, 0, 0, 0}, ArenaGeometry::much));
  // A page of a hundred is not worth the move.
  CHECK_FALSE(g.is_loose({0, 97, 0, 0, 7}, {0, 97, 0, 0, 0}, little));
  CHECK(g.is_loose({0, 97, 0, 0, 7}, {0, 97, 0, 0, 0}, ArenaGeometry::any));
}
