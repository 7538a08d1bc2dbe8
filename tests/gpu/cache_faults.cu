// Every call of the CUDA runtime that the cache makes, failing: what is thrown, what is left.

#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include <catch2/catch.hpp>

#include <array>
#include <gpu/cache_pair.cuh>
#include <gpu/cuda_calls.hpp>
#include <gpu/device.cuh>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using gpu::test::Calls;
using gpu::test::CudaFault;

using gpu::test::CachePair;
using Cache = CachePair::Cache;

constexpr Shape shape = CachePair::small;
constexpr Limits limits{.max_tokens = 160, .max_sequences = 2, .window = 8};

/// A cache and its twin of the host.
class Pair : public CachePair {
 public:
  Pair() : CachePair(shape, limits) {}
};

Cache make_cache() { return Cache(shape, limits, CachePair::ladder()); }

/// @brief Lets the n-th call of some kinds fail in `operation`, for every n that there is, with
/// `check(n)` after each.
/// @return how many calls there are
template <class F, class G>
int fail_each(unsigned calls, cudaError_t status, F const& operation, G const& check) {
  for (int nth = 1;; ++nth) {
    std::string failed;
    std::string message;
    std::size_t bytes = 0;
    {
      CudaFault const fault(calls, nth, status);
      try {
        operation();
      } catch (OutOfMemory const& error) {
        message = error.what();
        bytes = error.bytes();
      } catch (gpu::CudaError const& error) {
        message = error.what();
      }
      failed = CudaFault::failed();
    }
    if (failed.empty()) {
      REQUIRE(message.empty());
      return nth - 1;
    }
    INFO("call " << nth << ", " << failed << ": " << message);
    REQUIRE(message.find(failed) != std::string::npos);
    if (status == cudaErrorMemoryAllocation) {
      REQUIRE(bytes > 0);
      REQUIRE(message.find(std::to_string(bytes) + " bytes") != std::string::npos);
    }
    check(nth);
  }
}

}  // namespace

TEST_CASE("A constructor that fails leaves nothing behind", "[faults]") {
  int const before = gpu::test::live_blocks();
  auto const nothing_left = [&](int) { REQUIRE(gpu::test::live_blocks() == before); };
  auto const construct = [] { static_cast<void>(make_cache()); };
  CHECK(fail_each(Calls::allocations, cudaErrorMemoryAllocation, construct, nothing_left) > 20);
  CHECK(fail_each(Calls::pins, cudaErrorMemoryAllocation, construct, nothing_left) > 1);
  CHECK(fail_each(Calls::pins | Calls::maps, cudaErrorUnknown, construct, nothing_left) > 3);
  CHECK(fail_each(Calls::launches | Calls::fills | Calls::synchronisations, cudaErrorUnknown,
                  construct, nothing_left) > 4);
  CHECK(gpu::test::live_blocks() == before);
}

TEST_CASE("Too little device memory says how much is needed", "[faults]") {
  Limits many = limits;
  many.max_tokens = 1 << 24;
  many.max_sequences = 1 << 12;
  try {
    Cache const cache(shape, many, CachePair::ladder());
    FAIL("a pool of some terabytes was allocated");
  } catch (OutOfMemory const& error) {
    CHECK(error.bytes() > std::size_t{1} << 40U);
    CHECK_THAT(error.what(), Catch::Contains("pages") &&
                                 Catch::Contains(std::to_string(error.bytes()) + " bytes"));
  }
  CudaFault const fault(Calls::allocations, 1, cudaErrorNoDevice);
  try {
    static_cast<void>(make_cache());
    FAIL("there is no device");
  } catch (gpu::CudaError const& error) {
    CHECK(error.code() == cudaErrorNoDevice);
  }
}

TEST_CASE("A sequence that could not be opened can be opened later", "[faults]") {
  Pair pair;
  Pair::Text other = pair.open(1);
  pair.steps(other, 3);
  Sequence opened;
  auto const each = [&](unsigned calls, cudaError_t status) {
    int const before = gpu::test::live_blocks();
    int const count = fail_each(
        calls, status, [&] { opened = pair.device.open(pair.stream); },
        [&](int nth) {
          REQUIRE(gpu::test::live_blocks() == before);
          pair.step(other);
          Pair::Text text = pair.open(static_cast<unsigned>(nth));
          pair.steps(text, 2);
          pair.close(text);
        });
    pair.device.close(opened, pair.stream);
    return count;
  };
  CHECK(each(Calls::launches, cudaErrorUnknown) == 3);
  CHECK(each(Calls::pins | Calls::maps, cudaErrorUnknown) == 2);
}

TEST_CASE("Memory that the system does not pin is no tier for kernels", "[faults]") {
  Pair pair;
  int const before = gpu::test::live_blocks();
  // Without pinned memory the tier alone would go on through the host, by a small buffer that is.
  for (int const refusals : {1, 2}) {
    CudaFault const fault(Calls::pins, 1, cudaErrorMemoryAllocation, refusals > 1);
    try {
      static_cast<void>(pair.device.open(pair.stream));
      FAIL("a slab was pinned");
    } catch (OutOfMemory const& error) {
      std::size_t const slab = 2 * sizeof(Half) * shape.head_dim * limits.max_tokens;
      CHECK(error.bytes() >= slab);
      CHECK_THAT(error.what(), Catch::Contains("cudaHostAlloc"));
    }
    CHECK(gpu::test::live_blocks() == before);
  }
  Pair::Text text = pair.open(1);
  pair.steps(text, 2);
}

TEST_CASE("A step that fails loses no row, and no other sequence", "[faults]") {
  Pair pair;
  Pair::Text other = pair.open(1);
  pair.step(other);
  int const before = gpu::test::live_blocks();
  int failures = 0;
  constexpr int warm_up = 84;  // a digest group, and rows past the window
  for (int nth = 1;; ++nth) {
    Pair::Text text = pair.open(static_cast<unsigned>(100 + nth));
    pair.steps(text, warm_up);
    auto const message = pair.failing_step(text, nth);
    if (!message) {
      pair.close(text);
      break;
    }
    failures += 1;
    INFO("launch " << nth << ": " << *message);
    REQUIRE(message->find("launch of") != std::string::npos);
    REQUIRE(pair.device.length(text.device) == warm_up);
    REQUIRE(pair.are_stored(text, warm_up));
    pair.steps(other, 1);
    pair.close(text);
    REQUIRE(gpu::test::live_blocks() == before);
  }
  CHECK(failures >= 8);  // begin, at least 2 of a layer, 2 of the logits, 3 of the slow clock
  // No page of the pool was lost: both sequences find room for all their rows.
  pair.steps(other, limits.max_tokens - pair.device.length(other.device));
  Pair::Text last = pair.open(3);
  pair.steps(last, limits.max_tokens);
}

TEST_CASE("After a failed step a sequence can only be closed", "[faults]") {
  Pair pair;
  Pair::Text text = pair.open(1);
  pair.steps(text, 3);
  REQUIRE(pair.failing_step(text, 3).has_value());  // not in begin_async()
  auto const rows = gpu::test::filled<float>(shape.head_dim, 1.0F);
  auto const q = gpu::test::filled<float>(shape.query_heads * shape.head_dim, 1.0F);
  CHECK_THROWS_WITH(pair.device.attend_async<float>(0, q, rows, rows, q, pair.stream),
                    Catch::Contains("begin_async() comes first"));
  CHECK_THROWS_AS(pair.device.advance_async(pair.stream), InvalidArgument);
  std::array const batch{text.device};
  CHECK_THROWS_WITH(pair.device.begin_async(batch, pair.stream),
                    Catch::Contains("sequence {0, 1}") && Catch::Contains("close"));
  CHECK_THROWS_WITH(pair.device.begin_prefill_async(text.device, 1, pair.stream),
                    Catch::Contains("close"));
  CHECK_THROWS_WITH(pair.device.truncate_async(text.device, 0, pair.stream),
                    Catch::Contains("close"));
  CHECK_THROWS_WITH(pair.device.pin_async(text.device, {}, pair.stream), Catch::Contains("close"));
  CHECK_THROWS_WITH(pair.device.thaw_async(text.device, pair.stream), Catch::Contains("close"));
  pair.close(text);
  text = pair.open(2);
  pair.steps(text, 3);
  // A batch that was not even begun can be begun again.
  REQUIRE(pair.failing_step(text, 1).has_value());
  CHECK_THROWS_WITH(pair.device.attend_async<float>(0, q, rows, rows, q, pair.stream),
                    Catch::Contains("begin_async() comes first"));
  CHECK_NOTHROW(pair.device.begin_async(std::array{text.device}, pair.stream));
  pair.close(text);
  CHECK_THROWS_WITH(pair.device.attend_async<float>(0, q, rows, rows, q, pair.stream),
                    Catch::Contains("begin_async() comes first"));
}

TEST_CASE("Room for the logits' sums that is refused can be asked for again", "[faults]") {
  gpu::test::Stream const stream;
  Cache cache = make_cache();
  Sequence const sequence = cache.open(stream);
  auto const rows = gpu::test::filled<float>(shape.head_dim, 1.0F);
  auto const q = gpu::test::filled<float>(shape.query_heads * shape.head_dim, 1.0F);
  auto const logits = gpu::test::filled<float>(20000, 1.0F);
  gpu::DeviceArray<float> const out(q.size());
  cache.begin_async(std::array{sequence}, stream);
  cache.attend_async<float>(0, q, rows, rows, out, stream);
  for (cudaError_t const status : {cudaErrorMemoryAllocation, cudaErrorStreamCaptureUnsupported}) {
    CudaFault const fault(Calls::allocations, 1, status);
    CHECK_THROWS_WITH(cache.advance_async<float>(logits, stream), Catch::Contains("cudaMalloc"));
    CHECK(cache.length(sequence) == 0);
  }
  cache.advance_async<float>(logits, stream);
  stream.wait();
  CHECK(cache.report(sequence).step == 1);
  CHECK(cache.report(sequence).has_logits);
}

TEST_CASE("A close that fails can be repeated, or has closed", "[faults]") {
  Pair pair;
  Pair::Text other = pair.open(1);
  pair.steps(other, 2);
  int const before = gpu::test::live_blocks();
  int failures = 0;
  for (int nth = 1;; ++nth) {
    Pair::Text text = pair.open(static_cast<unsigned>(nth));
    pair.steps(text, 70);
    std::string message;
    {
      CudaFault const fault(Calls::launches | Calls::synchronisations, nth, cudaErrorUnknown);
      try {
        pair.device.close(text.device, pair.stream);
      } catch (gpu::CudaError const& error) {
        message = error.what();
      }
      REQUIRE(message.find(CudaFault::failed()) != std::string::npos);
    }
    bool const is_open = pair.device.tier().is_open(text.device.index);
    INFO("call " << nth << ": " << message);
    if (is_open) {
      REQUIRE_FALSE(message.empty());
      REQUIRE(pair.are_stored(text, 70));
      pair.step(text);  // as if nothing had happened
      pair.close(text);
    } else {
      REQUIRE_THROWS_AS(pair.device.length(text.device), UnknownSequence);
      pair.forget(text);
    }
    pair.step(other);
    REQUIRE(gpu::test::live_blocks() == before);
    if (message.empty()) {
      break;
    }
    failures += 1;
  }
  CHECK(failures == 3);  // pages, the stream, the table of slabs
  Pair::Text last = pair.open(3);
  pair.steps(last, limits.max_tokens);
  pair.steps(other, limits.max_tokens - pair.device.length(other.device));
}

TEST_CASE("After a truncation that fails a sequence can only be closed", "[faults]") {
  Pair pair;
  Pair::Text other = pair.open(1);
  pair.steps(other, 2);
  int failures = 0;
  for (int nth = 1;; ++nth) {
    Pair::Text text = pair.open(static_cast<unsigned>(nth));
    pair.steps(text, 70);
    std::string message;
    {
      CudaFault const fault(Calls::launches, nth, cudaErrorUnknown);
      try {
        pair.device.truncate_async(text.device, 30, pair.stream);
      } catch (gpu::CudaError const& error) {
        message = error.what();
      }
      REQUIRE(message.find(CudaFault::failed()) != std::string::npos);
    }
    if (message.empty()) {
      REQUIRE(pair.device.length(text.device) == 30);
      break;
    }
    INFO("launch " << nth << ": " << message);
    std::array const batch{text.device};
    CHECK_THROWS_WITH(pair.device.begin_async(batch, pair.stream), Catch::Contains("close"));
    REQUIRE(pair.are_stored(text, 70));
    pair.close(text);
    pair.step(other);
    failures += 1;
  }
  CHECK(failures == 3);  // length, cut, what is owed
}

TEST_CASE("A question that fails is answered later", "[faults]") {
  Pair pair;
  Pair::Text text = pair.open(1);
  pair.steps(text, 5);
  std::vector<Fidelity> fidelities(5, Fidelity::evicted);
  CHECK(fail_each(
            Calls::fills, cudaErrorUnknown,
            [&] { pair.device.fidelities(text.device, 0, 0, fidelities, pair.stream); },
            [&](int) { REQUIRE(fidelities.front() == Fidelity::evicted); }) == 1);
  CHECK(fidelities.front() == Fidelity::exact);
  pair.step(text);
}

TEST_CASE("After a crash everything throws, and the tier has every row", "[faults]") {
  int const before = gpu::test::live_blocks();
  auto pair = std::make_unique<Pair>();
  Pair::Text text = pair->open(1);
  pair->steps(text, 90);
  std::array const batch{text.device};
  {
    CudaFault const crash(Calls::launches, 1, cudaErrorIllegalAddress, /*sticky=*/true);
    CHECK_THROWS_AS(pair->device.begin_async(batch, pair->stream), gpu::CudaError);
    CHECK_THROWS_AS(pair->device.open(pair->stream), gpu::CudaError);
    std::vector<Fidelity> fidelities(90);
    CHECK_THROWS_AS(pair->device.fidelities(text.device, 0, 0, fidelities, pair->stream),
                    gpu::CudaError);
    CHECK_THROWS_AS(make_cache(), gpu::CudaError);
    CHECK(pair->device.report(text.device).step == 90);
    CHECK_THROWS_AS(pair->device.close(text.device, pair->stream), gpu::CudaError);
    CHECK(pair->are_stored(text, 90));
    CHECK_NOTHROW(pair.reset());
  }
  CHECK(gpu::test::live_blocks() == before);
}
