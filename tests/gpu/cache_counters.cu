// What a step of the cache asks of the device, counted: launches, memory, the link to the host.
// benchmarks/gpu/traffic.cu prints tables.

#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <gpu/cache_pair.cuh>
#include <gpu/cuda_calls.hpp>
#include <gpu/device.cuh>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace kvfreeze;
using gpu::test::CachePair;
using gpu::test::KernelCount;
using gpu::test::KernelCounter;

/// What is expected of a step, in one place.
namespace expected {

constexpr unsigned begin = 1;
constexpr unsigned per_layer = 3;  ///< append, ranking, attention
constexpr unsigned advance = 3;    ///< settle, report and trigger, recovery
constexpr unsigned logits = 2;     ///< their entropy

struct Efficiency {
  std::string_view kernel;
  double least;
};

/// Of kernels that read what grows with the context: bytes asked for of those in sectors. More than
/// 1, as the threads of a warp share scales.
constexpr Efficiency efficiencies[] = {{"decode_attention_kernel", 1.2}};

}  // namespace expected

/// A lane of an 8B model: four query heads for a KV head of 128; two of its lanes.
constexpr Shape llama{.layers = 1, .query_heads = 8, .kv_heads = 2, .head_dim = 128};

Limits room_for(int tokens) { return {.max_tokens = tokens, .max_sequences = 1, .window = 32}; }

/// Steps of the device alone.
void fill(CachePair& pair, CachePair::Text& text, int tokens) {
  for (int i = 0; i < tokens; ++i) {
    pair.next_row(text);
    pair.enqueue(text);
  }
  pair.stream.wait();
}

/// Kernels of some steps after others.
std::vector<KernelCount> count_steps(CachePair& pair, CachePair::Text& text, int tokens,
                                     int steps) {
  fill(pair, text, tokens);
  KernelCounter const counter;
  for (int i = 0; i < steps; ++i) {
    pair.next_row(text);
    pair.enqueue(text);
  }
  return KernelCounter::kernels();
}

}  // namespace

TEST_CASE("A step is launches and nothing else", "[counters]") {
  CachePair pair(llama, room_for(256));
  CachePair::Text text = pair.open(1);
  fill(pair, text, 100);
  pair.next_row(text);
  auto const stats = gpu::test::count(pair.stream, [&] { pair.enqueue(text); });
  if (!stats) {
    WARN("nobody counts here");
    return;
  }
  CHECK(stats->kernel_launches ==
        expected::begin + expected::per_layer + expected::advance + expected::logits);
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs + stats->host_allocs == 0);
  CHECK(stats->frees + stats->async_frees + stats->host_frees == 0);
  CHECK(stats->copies_h2d + stats->copies_d2h + stats->copies_d2d + stats->memsets == 0);
  CHECK(stats->host_functions + stats->event_records + stats->stream_waits == 0);
}

TEST_CASE("Kernels that read the context read whole sectors", "[counters]") {
  if (!KernelCounter::counts() || kvfreeze_test::short_tests()) {  // checkers change no count
    WARN("nobody counts here");
    return;
  }
  CachePair pair(llama, room_for(400));
  CachePair::Text text = pair.open(2);
  auto const kernels = count_steps(pair, text, 360, 1);
  int launches = 0;
  for (KernelCount const& kernel : kernels) {
    launches += kernel.launches;
  }
  CHECK(launches == expected::begin + expected::per_layer + expected::advance + expected::logits);
  for (auto const& [name, least] : expected::efficiencies) {
    auto const found = std::find_if(kernels.begin(), kernels.end(),
                                    [&](KernelCount const& k) { return k.name == name; });
    CAPTURE(std::string(name));
    REQUIRE(found != kernels.end());
    CHECK(found->efficiency() >= least);
  }
}

TEST_CASE("What is written to the host is the new rows", "[counters]") {
  CachePair pair(llama, room_for(200));
  CachePair::Text text = pair.open(3);
  std::byte const mark{0xA5};
  for (int row = 0; row < 200; ++row) {
    for (int lane = 0; lane < llama.kv_heads; ++lane) {
      std::ranges::fill(pair.tier_row(text, lane, row), mark);
    }
  }
  auto const untouched = [&](int lane, int row) {
    auto const bytes = pair.tier_row(text, lane, row);
    return std::all_of(bytes.begin(), bytes.end(), [&](std::byte b) { return b == mark; });
  };
  for (int step = 1; step <= gpu::test::steps(150); ++step) {
    pair.step(text);
    std::size_t written = 0;
    for (int lane = 0; lane < llama.kv_heads; ++lane) {
      REQUIRE(pair.is_stored(text, lane, step - 1));
      written += pair.tier_row(text, lane, step - 1).size();
      for (int row = step; row < 200; ++row) {
        REQUIRE(untouched(lane, row));
      }
    }
    REQUIRE(pair.device.report(text.device).moved_out_bytes == written);
  }
  CHECK(
      pair.are_stored(text, gpu::test::steps(150)));  // what was written once was not written again
}

// Rows that a step has no business with are NaN for the time of it: reading one would show in
// attention's output, in the masses or in the levels of later steps.
TEST_CASE("What is read from the host is rows that were not exact", "[counters]") {
  CachePair pair(llama, room_for(240));
  CachePair::Text text = pair.open(4);
  int reading = 0;
  int quiet = 0;
  for (int step = 0; step < gpu::test::steps(200); ++step) {
    std::vector<Fidelity> before(static_cast<std::size_t>(step));
    pair.next_row(text);
    for (int lane = 0; lane < llama.kv_heads; ++lane) {
      pair.device.fidelities(text.device, 0, lane, before, pair.stream);
      for (int row = 0; row < step; ++row) {
        if (before[static_cast<std::size_t>(row)] == Fidelity::exact) {
          std::ranges::fill(pair.tier_row(text, lane, row), std::byte{0xFF});
        }
      }
    }
    pair.enqueue(text);
    pair.compare(text);
    pair.restore_tier(text, step);
    (pair.device.report(text.device).moved_in_bytes > 0 ? reading : quiet) += 1;
  }
  CHECK(reading > 20);
  CHECK(quiet > 20);
}
