#include <catch2/catch.hpp>

#include <array>
#include <gpu/foreign_attention.cuh>
#include <gpu/ladder_twins.cuh>

namespace {

using namespace kvfreeze;

using Cache = gpu::test::Ladder<Half>;
using gpu::test::small;

}  // namespace

TEST_CASE("An engine's own kernel over the view, the rest, and their merge are attention",
          "[foreign]") {
  auto scheduler = gpu::test::ladder();
  scheduler.none = 1e-6F;  // what frozen rows weigh is left out
  Limits const limits{.max_tokens = 256, .max_sequences = 2, .window = 16};
  Cache ours(small, limits, scheduler);
  Cache theirs(small, limits, scheduler);
  CHECK(gpu::test::attend_beside(ours, theirs, gpu::test::steps(130)).rows.compact > 0);
}

TEST_CASE("A view and a rest without a recall are refused", "[foreign]") {
  gpu::test::Stream const stream;
  Cache cache(small, {.max_tokens = 64, .max_sequences = 1, .window = 8});
  std::array const batch{cache.open(stream)};
  gpu::DeviceArray<std::int32_t> const few(3);
  gpu::PageLists const lists{few.span(), few.span(), few.span()};
  gpu::DeviceArray<float> const out(6 * 64);
  gpu::DeviceArray<float> const lse(6);
  CHECK_THROWS_AS(cache.view_async(lists, stream), InvalidArgument);
  CHECK_THROWS_AS(cache.partial_async(out.span(), lse.span(), stream), InvalidArgument);
  cache.begin_async(batch, stream);
  auto const q = gpu::test::filled<float>(6 * 64, 1.0F);
  auto const k = gpu::test::filled<float>(2 * 64, 1.0F);
  cache.recall_async<float>(0, q, k, k, stream);
  CHECK_THROWS_AS(cache.view_async(lists, stream), InvalidArgument);  // too small
  CHECK_THROWS_AS(cache.partial_async(out.span().first(64), lse.span(), stream), InvalidArgument);
  cache.attend_async<float>(1, q, k, k, out, stream);
  CHECK_THROWS_AS(cache.partial_async(out.span(), lse.span(), stream), InvalidArgument);
  cache.advance_async(stream);
  cache.close(batch[0], stream);
}
