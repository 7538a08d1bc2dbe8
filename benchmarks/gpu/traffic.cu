// What a decode step on the ladder asks of the device, counted and not timed, beside dense paged
// decode attention over the same context: sectors of 32 bytes and instructions of warps, by kernel,
// for each row of a lane. Two lanes of an 8B model (four query heads for a KV head of 128, fp16),
// fed as step.cu is.
//
//   LAUNCHER traffic [--small] [--out FILE]      --small: one short context
//
// Only where somebody counts: LAUNCHER is an emulator that does. Elsewhere it leaves with 77.

#include <kvfreeze/gpu/presets.cuh>

#include "dense_rows.cuh"
#include "harness.cuh"
#include "synthetic_rows.cuh"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <gpu/cuda_calls.hpp>
#include <string_view>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using namespace kvfreeze::gpu::bench;
using kvfreeze::gpu::test::KernelCount;
using kvfreeze::gpu::test::KernelCounter;

constexpr int head_dim = 128;
constexpr int settling = 100;  ///< steps before those that count
constexpr int steps = 64;      ///< a period of the queries
constexpr Shape shape{.layers = 1, .query_heads = 8, .kv_heads = 2, .head_dim = head_dim};

struct Context {
  int rows = 0;
  StepReport last;
  std::vector<KernelCount> kernels;
  std::vector<KernelCount> dense;
};

/// A sequence of so many rows, on the ladder.
class Ladder {
 public:
  explicit Ladder(int context)
      : rows_(shape, 1),
        cache_(shape, limits(context), scheduler()),
        sequence_(cache_.open(stream())),
        out_(static_cast<std::size_t>(shape.query_heads * head_dim)) {
    constexpr int most = 2048;
    SyntheticRows::Chunk const chunk(shape, most);
    for (int first = 0; first < context; first += most) {
      int const tokens = std::min(most, context - first);
      auto const elements = [&](int heads) {
        return static_cast<std::size_t>(tokens * heads * head_dim);
      };
      cache_.begin_prefill_async(sequence_, tokens, stream());
      rows_.make_chunk(chunk, 0, 0, static_cast<std::uint32_t>(first), tokens, stream_);
      cache_.prefill_async<Half>(0, chunk.q.span().first(elements(shape.query_heads)),
                                 chunk.k.span().first(elements(shape.kv_heads)),
                                 chunk.v.span().first(elements(shape.kv_heads)), stream());
      cache_.advance_async(stream());
    }
    rows_.skip_to(static_cast<std::uint32_t>(context));
  }

  void step() {
    rows_.next(stream_);
    cache_.begin_async({&sequence_, 1}, stream());
    cache_.attend_async<Half>(0, rows_.q(0), rows_.k(0), rows_.v(0), out_, stream());
    cache_.advance_async(stream());
  }

  [[nodiscard]] StepReport report() const {
    check(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    return cache_.report(sequence_);
  }

 private:
  [[nodiscard]] ::cuda::stream_ref stream() const { return ::cuda::stream_ref(stream_.get()); }

  static Limits limits(int context) {
    Limits limits;
    limits.max_tokens = context + settling + steps;
    limits.max_sequences = 1;
    return limits;
  }

  static LadderScheduler<> scheduler() {
    LadderScheduler<> scheduler;
    scheduler.dense = false;  // the ladder is what is counted
    return scheduler;
  }

  Stream stream_;
  SyntheticRows rows_;
  presets::KvFreeze<Half, head_dim> cache_;
  Sequence sequence_;
  DeviceArray<float> out_;
};

Context count(int context) {
  Context result;
  {
    Ladder ladder(context);
    for (int i = 0; i < settling; ++i) {
      ladder.step();
    }
    KernelCounter const counter;
    for (int i = 0; i < steps; ++i) {
      ladder.step();
    }
    result.last = ladder.report();
    for (KernelCount const& kernel : KernelCounter::kernels()) {
      if (kernel.name != "normal_rows_kernel" && kernel.name != "queries_kernel") {
        result.kernels.push_back(kernel);
      }
    }
  }
  result.rows = result.last.length;
  Stream const stream;
  DenseRows<head_dim> const dense(shape, 1, context, std::size_t{1} << 30U);
  KernelCounter const counter;
  dense.attend_async(0, stream);
  check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
  result.dense = KernelCounter::kernels();
  return result;
}

/// Of all lanes' rows and a step.
struct PerRow {
  double read = 0.0;
  double written = 0.0;
  double instructions = 0.0;

  PerRow(std::vector<KernelCount> const& kernels, double rows) {
    for (KernelCount const& k : kernels) {
      read += 32.0 * static_cast<double>(k.load_sectors) / rows;
      written += 32.0 * static_cast<double>(k.store_sectors) / rows;
      instructions += static_cast<double>(k.warp_instructions) / rows;
    }
  }

  [[nodiscard]] double bytes() const { return read + written; }
};

void print(char const* name, PerRow const& per_row) {
  std::printf("  %-26s %8.1f %8.1f %8.1f %10.1f\n", name, per_row.read, per_row.written,
              per_row.bytes(), per_row.instructions);
}

int run(Options const& options) {
  if (!KernelCounter::counts()) {
    std::printf("skipped: nobody counts here\n");
    return 77;
  }
  std::vector<int> const contexts =
      options.small ? std::vector<int>{1024} : std::vector<int>{2048, 8192, 32768};
  std::vector<Context> results;
  for (int const context : contexts) {
    results.push_back(count(context));
    Context const& r = results.back();
    auto const total = static_cast<double>(r.last.rows.total());
    auto const share = [&](auto rows) { return 100.0 * static_cast<double>(rows) / total; };
    std::printf(
        "%d rows: %.1f %% exact, %.1f %% compact, %.1f %% frozen; a step touches %.1f bytes a row\n"
        "  %-26s %8s %8s %8s %10s\n",
        r.rows, share(r.last.rows.exact), share(r.last.rows.compact), share(r.last.rows.frozen),
        static_cast<double>(r.last.touched_bytes) / total, "a row of a lane", "B read", "B written",
        "B", "warp instr.");
    for (KernelCount const& kernel : r.kernels) {
      print(kernel.name.c_str(), PerRow({kernel}, total * steps));
    }
    PerRow const step(r.kernels, total * steps);
    PerRow const dense(r.dense, static_cast<double>(shape.kv_heads) * contexts[results.size() - 1]);
    print("a step", step);
    print("dense attention", dense);
    std::printf("  dense to step: %.2f of bytes, %.2f of instructions\n\n",
                dense.bytes() / step.bytes(), dense.instructions / step.instructions);
    static_cast<void>(std::fflush(stdout));
  }
  write_results(options, [&](std::FILE* file) {
    char const* separator = "[\n";
    for (std::size_t i = 0; i < results.size(); ++i) {
      Context const& r = results[i];
      PerRow const step(r.kernels, static_cast<double>(r.last.rows.total()) * steps);
      PerRow const dense(r.dense, static_cast<double>(shape.kv_heads) * contexts[i]);
      std::fprintf(file,
                   "%s  {\"rows\": %d, \"exact\": %lld, \"compact\": %lld, \"frozen\": %lld, "
                   "\"step_bytes\": %.1f, \"step_instructions\": %.1f, \"dense_bytes\": %.1f, "
                   "\"dense_instructions\": %.1f}",
                   separator, r.rows, static_cast<long long>(r.last.rows.exact),
                   static_cast<long long>(r.last.rows.compact),
                   static_cast<long long>(r.last.rows.frozen), step.bytes(), step.instructions,
                   dense.bytes(), dense.instructions);
      separator = ",\n";
    }
    std::fprintf(file, "\n]\n");
  });
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_benchmark("traffic", argc, argv, run); }
