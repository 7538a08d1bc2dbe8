#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <gpu/ladder_twins.cuh>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

auto make_twins(LadderScheduler<> const& scheduler, int tokens, int sequences = 1) {
  return ladder_twins(small, limits_of(tokens, sequences), scheduler);
}

}  // namespace

TEST_CASE("A prompt in chunks decides as on the host", "[prefill]") {
  auto twins = make_twins(ladder(), 512);
  std::size_t const sequence = twins.open(1);
  // Within a group, to its end, over several, and tokens between chunks.
  for (int const chunk : {30, 34, 150, 2, 61}) {
    twins.prefill(sequence, chunk);
  }
  for (int i = 0; i < 20; ++i) {
    twins.step({sequence});
  }
  twins.prefill(sequence, 70);
  twins.compare_rows(sequence);
  RowCounts const rows = twins.rows(sequence);
  CHECK(rows.compact > 0);
  CHECK(rows.frozen > 0);
}

TEST_CASE("Where the ladder does not pay a chunk stays exact", "[prefill]") {
  auto twins = make_twins(LadderScheduler<>{}, 256);
  std::size_t const sequence = twins.open(2);
  twins.prefill(sequence, 120);
  for (int i = 0; i < 5; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).exact == twins.rows(sequence).total());
}

TEST_CASE("A chunk goes in while other sequences decode", "[prefill]") {
  auto twins = make_twins(ladder(), 256, 2);
  std::size_t const first = twins.open(3);
  std::size_t const second = twins.open(4);
  twins.prefill(first, 100);
  for (int i = 0; i < 12; ++i) {
    twins.step({first});
    if (i % 4 == 0) {
      twins.prefill(second, 33);
    }
  }
  for (int i = 0; i < 20; ++i) {
    twins.step({second, first});
  }
}

TEST_CASE("Rows come back bit for bit after any history", "[laws]") {
  auto twins = make_twins(ladder(), 384);
  std::size_t const sequence = twins.open(5);
  std::mt19937 random(7);
  int length = 0;
  for (int i = 0; i < 120; ++i) {
    int const what = static_cast<int>(random() % 16);
    if (what == 0 && length > 0 && length < 384 - 45) {
      int const chunk = 1 + static_cast<int>(random() % 45);
      if (chunk > 1) {
        twins.prefill(sequence, chunk);
        length += chunk;
      }
    } else if (what == 1 && length > 8) {
      length -= static_cast<int>(random() % static_cast<unsigned>(std::min(length, 90)));
      twins.truncate(sequence, length);
    } else if (what == 2) {
      twins.thaw(sequence);
    } else if (what == 3 && length > 60) {
      twins.pin(sequence, {{20, 25}, {50, 51}, {length + 3, length + 5}});
    } else if (what == 4) {
      twins.pin(sequence, {});
    } else if (length < 384) {
      twins.step({sequence});
      length += 1;
    }
    if (i % 10 == 9) {
      twins.compare_rows(sequence);
    }
  }
}

TEST_CASE("A thawed cache attends as one that never froze", "[laws]") {
  auto twins = make_twins(ladder(), 256);
  std::size_t const sequence = twins.open(8);
  twins.prefill(sequence, 150);
  for (int i = 0; i < 30; ++i) {
    twins.step({sequence});
  }
  twins.thaw(sequence);
  // The same rows in a cache that keeps everything: attention must give the same bits.
  auto keep = ladder();
  keep.none = 0.0F;
  keep.dense = true;
  using Cache = Ladder<Half>;
  gpu::test::Stream const& stream = twins.stream();
  Cache plain(small, {.max_tokens = 256, .max_sequences = 1, .window = 256}, keep);
  Sequence const other = plain.open(stream);
  std::array const batch{other};
  std::vector<std::vector<float>> const k = twins.keys(sequence);
  std::vector<std::vector<float>> const v = twins.values(sequence);
  std::size_t const width = 2 * 64;
  auto const queries = gpu::test::filled<float>(6 * 64, 0.125F);
  int const length = 180;
  for (int token = 0; token < length; ++token) {
    plain.begin_async(batch, stream);
    for (int layer = 0; layer < 2; ++layer) {
      auto const row = [&](std::vector<float> const& all) {
        auto const* const at = all.data() + static_cast<std::size_t>(token) * width;
        return gpu::test::upload(std::vector<float>(at, at + width));
      };
      auto const new_k = row(k[static_cast<std::size_t>(layer)]);
      auto const new_v = row(v[static_cast<std::size_t>(layer)]);
      gpu::DeviceArray<float> const out(6 * 64);
      plain.attend_async<float>(layer, queries, new_k, new_v, out, stream);
      stream.wait();
    }
    plain.advance_async(stream);
  }
  auto const new_row = gpu::test::filled<float>(width, 0.5F);
  auto const attend = [&](Cache& cache, Sequence which) {
    std::array const one{which};
    cache.begin_async(one, stream);
    std::vector<float> found;
    for (int layer = 0; layer < 2; ++layer) {
      gpu::DeviceArray<float> const out(6 * 64);
      cache.attend_async<float>(layer, queries, new_row, new_row, out, stream);
      auto const one_layer = gpu::test::download(out, stream);
      found.insert(found.end(), one_layer.begin(), one_layer.end());
    }
    cache.advance_async(stream);
    return found;
  };
  CHECK(attend(twins.device(), twins.handle(sequence)) == attend(plain, other));
}

TEST_CASE("A chunk that does not fit is refused, and loses nothing", "[prefill]") {
  gpu::test::Stream const stream;
  gpu::KvFreezeCache<> cache(small, {.max_tokens = 64, .max_sequences = 1, .window = 8});
  Sequence const sequence = cache.open(stream);
  auto const q = gpu::test::filled<float>(4 * 6 * 64, 1.0F);
  auto const k = gpu::test::filled<float>(4 * 2 * 64, 1.0F);
  gpu::DeviceArray<Half> const room(4 * 2 * 64);
  CHECK_THROWS_AS((cache.prefill_async<float>(0, q, k, k, stream)), InvalidArgument);
  CHECK_THROWS_AS(cache.begin_prefill_async(sequence, 0, stream), InvalidArgument);
  CHECK_THROWS_AS(cache.begin_prefill_async(sequence, 65, stream), CapacityError);
  cache.begin_prefill_async(sequence, 4, stream);
  CHECK_THROWS_AS((cache.prefill_async<float>(2, q, k, k, stream)), InvalidArgument);
  CHECK_THROWS_AS((cache.prefill_async<float>(0, k, k, k, stream)), InvalidArgument);
  gpu::DeviceArray<float> const out(q.size());
  CHECK_THROWS_AS((cache.attend_async<float>(0, q, k, k, out, stream)), InvalidArgument);
  for (int layer = 0; layer < 2; ++layer) {
    cache.prefill_async<float>(layer, q, k, k, stream);
  }
  cache.advance_async(stream);
  stream.wait();
  CHECK(cache.length(sequence) == 4);
  CHECK(cache.report(sequence).length == 4);
  CHECK_THROWS_AS(cache.gather_async(sequence, 2, room, room, stream), InvalidArgument);
  CHECK_THROWS_AS(cache.gather_async(sequence, 0, room.span().first(128), room, stream),
                  InvalidArgument);
  CHECK_THROWS_AS(cache.truncate_async(sequence, 5, stream), InvalidArgument);
  std::array<TokenRange, 1> const pins{{{3, 3}}};
  CHECK_THROWS_AS(cache.pin_async(sequence, pins, stream), InvalidArgument);
  CHECK_THROWS_AS(cache.thaw_async(Sequence{}, stream), UnknownSequence);
  cache.gather_async(sequence, 0, room, room, stream);
  cache.close(sequence, stream);
}
