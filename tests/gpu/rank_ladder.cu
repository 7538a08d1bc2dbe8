// Ladders that go by ranks, on both sides.

#include <kvfreeze/gpu/published_presets.cuh>

#include <catch2/catch.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <gpu/rank_twin.hpp>
#include <gpu/twins.cuh>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

using Arkv = gpu::presets::ArkvRecalled<Half, SequenceShares, 64, 4>;
using Sinking = gpu::presets::Arkv<Half, SequenceShares, 64, 4>;
using Bits = gpu::presets::HeadBits<Half, 64, 4>;

template <class Cache>
Twins<Cache> rank_twins(Limits const& limits, typename Cache::scheduler_type const& scheduler) {
  return Twins<Cache>(make_rank_twin(small, limits, scheduler), small, limits, scheduler,
                      NeverTrigger{});
}

}  // namespace

TEST_CASE("So many rows are exact, so many coded, the others frozen, on both sides", "[cache]") {
  Arkv::scheduler_type const scheduler{.kept = 0.5F, .exact = 0.4F, .stay = 2, .every = 2};
  auto twins = rank_twins<Arkv>(limits_of(256, 2), scheduler);
  decode_new(twins, 60, 40);
  std::size_t const sequence = decode_new(twins, gpu::test::steps(180), 41);
  RowCounts const rows = twins.rows(sequence);
  CHECK(rows.compact > 0);
  CHECK(rows.frozen > 0);
}

TEST_CASE("Rows that only sink are the same on both sides, pinned ones come back", "[cache]") {
  Sinking::scheduler_type const scheduler{.kept = 0.6F, .exact = 0.3F, .stay = 2, .every = 2};
  auto twins = rank_twins<Sinking>(limits_of(256, 1), scheduler);
  std::size_t const sequence = decode_new(twins, 130, 47);
  std::uint64_t const frozen = twins.rows(sequence).frozen;
  CHECK(frozen > 0);
  twins.pin(sequence, {{20, 60}});
  for (int i = 0; i < 6; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).frozen < frozen);
  twins.pin(sequence, {});
  twins.truncate(sequence, 110);
  for (int i = 0; i < 20; ++i) {
    twins.step({sequence});
  }
}

TEST_CASE("Nothing is frozen where all ranks are attended", "[cache]") {
  auto twins = rank_twins<Arkv>(limits_of(192, 1), {.kept = 1.0F, .exact = 0.0F, .every = 1});
  std::size_t const sequence = decode_new(twins, gpu::test::steps(140), 42);
  CHECK(twins.rows(sequence).compact > twins.rows(sequence).exact);
}

TEST_CASE("A prompt's last queries rank its rows on both sides, by shares of its own", "[cache]") {
  auto twins = rank_twins<Arkv>(limits_of(256, 2), {.kept = 0.4F, .exact = 0.3F, .stay = 1});
  std::size_t const sequence = twins.open(43);
  std::size_t const other = twins.open(48);
  CHECK_THROWS_AS(
      twins.device().set_shares_async(twins.handle(other), std::vector<float>(3), twins.stream()),
      InvalidArgument);
  twins.set_shares(other, {0.2F, 0.1F, 2.0F, 0.5F});
  twins.prefill(other, 120);
  twins.prefill(sequence, 120);
  for (int i = 0; i < 20; ++i) {
    twins.step({sequence, other});
  }
  CHECK(twins.rows(sequence).frozen > 0);
  CHECK(twins.rows(other).exact < twins.rows(sequence).exact);
}

TEST_CASE("Lanes have the bits of their heads on both sides", "[cache]") {
  std::array<float, 4> const entropies{0.4F, 1.0F, 1.2F, 1.6F};  // of 2 layers' 2 KV heads
  HeadBitsScheduler<> scheduler;
  scheduler.entropies = TableShares<640>::from(entropies);
  scheduler.mean_entropy = 6.0F;
  scheduler.alpha = 1.0F;
  auto twins = rank_twins<Bits>(limits_of(256, 1), scheduler);
  std::size_t const sequence = decode_new(twins, gpu::test::steps(160), 44);
  CHECK(twins.rows(sequence).compact > 0);
}

TEMPLATE_TEST_CASE("Ranks under a byte cap are fewer, and the cap holds", "[budgets]", Arkv,
                   Sinking) {
  gpu::test::Stream const stream;
  Limits limits = limits_of(256, 1);
  typename TestType::scheduler_type const scheduler{
      .kept = 1.0F, .exact = 0.5F, .stay = 1, .every = 1};
  std::size_t least = 0;
  limits.resident_bytes = 1000;
  try {
    TestType const cache(small, limits, scheduler);
  } catch (CapacityError const& error) {
    least = error.needed();
  }
  REQUIRE(least > 1000);
  limits.resident_bytes = least + 20000;
  TestType cache(small, limits, scheduler);
  CHECK(cache.device_bytes() <= limits.resident_bytes);
  Sequence const sequence = cache.open(stream);
  Model model(small, 45);
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
  gpu::DeviceArray<float> const out(6 * 64);
  Sequence const batch[] = {sequence};
  std::size_t frozen = 0;
  for (int i = 0; i < gpu::test::steps(200); ++i) {
    cache.begin_async(batch, stream);
    for (int layer = 0; layer < small.layers; ++layer) {
      model.step(q, k, v);
      auto const device_q = gpu::test::upload(q);
      auto const device_k = gpu::test::upload(k);
      auto const device_v = gpu::test::upload(v);
      cache.template attend_async<float>(layer, device_q, device_k, device_v, out, stream);
      stream.wait();
    }
    cache.advance_async(stream);
    stream.wait();
    StepReport const report = cache.report(sequence);
    REQUIRE(report.rows.total() == 4U * static_cast<unsigned>(i + 1));
    REQUIRE(report.ledger.resident() <= limits.resident_bytes);
    frozen = report.rows.frozen;
  }
  CHECK(frozen > 0);
  // Where rows only sink, a lane of so few keeps no page for codes; the host's keeps no block.
  CHECK((cache.report(sequence).rows.compact > 0) == TestType::scheduler_type::rises);
}
