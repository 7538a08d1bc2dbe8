// What a decode step of a preset asks of the device, counted and not timed, beside dense paged
// decode attention over the same context: sectors of 32 bytes and instructions of warps, by kernel,
// for each row of a lane. Two lanes of an 8B model (four query heads for a KV head of 128, fp16),
// fed as step.cu is; or some layers of a real model.
//
//   LAUNCHER traffic [--preset NAME] [--stay STEPS] [--recording FILE | --context TOKENS] [--small]
//                    [--out FILE]
//
// NAME is KvFreeze (the ladder; if none is given), AsrKfEgr or AsrKfEgrEager; FILE is what
// `examples/run.sh record --queries 164` writes; --stay: steps for which the ladder's rows keep
// their level unneeded; --context: one context of so many made rows; --small: a short one.
//
// Only where somebody counts: LAUNCHER is an emulator that does. Elsewhere it leaves with 77.

#include <kvfreeze/gpu/presets.cuh>

#include "dense_rows.cuh"
#include "harness.cuh"
#include "recorded_rows.cuh"
#include "synthetic_rows.cuh"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <gpu/cuda_calls.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using namespace kvfreeze::gpu::bench;
using kvfreeze::gpu::test::KernelCount;
using kvfreeze::gpu::test::KernelCounter;

constexpr int settling = 100;    ///< steps before those that count
constexpr int steps = 64;        ///< a period of the synthetic queries
constexpr int most_layers = 30;  ///< of a real model
constexpr int chunk_rows = 2048;

/// One layer of rows that no model made.
class MadeRows {
 public:
  explicit MadeRows(int context)
      : rows_(shape(), 1), chunk_(shape(), chunk_rows), context_(context) {
    rows_.skip_to(static_cast<std::uint32_t>(context));
  }

  [[nodiscard]] static Shape shape() {
    return {.layers = 1, .query_heads = 8, .kv_heads = 2, .head_dim = 128};
  }

  [[nodiscard]] int context() const { return context_; }

  LayerRows chunk(int layer, int first, int tokens, Stream const& stream) {
    rows_.make_chunk(chunk_, layer, 0, static_cast<std::uint32_t>(first), tokens, stream);
    auto const elements = [&](int heads) {
      return static_cast<std::size_t>(tokens * heads * shape().head_dim);
    };
    return {chunk_.q.span().first(elements(shape().query_heads)),
            chunk_.k.span().first(elements(shape().kv_heads)),
            chunk_.v.span().first(elements(shape().kv_heads))};
  }

  void next(Stream const& stream) { rows_.next(stream); }

  [[nodiscard]] LayerRows row(int layer) const {
    return {rows_.q(layer), rows_.k(layer), rows_.v(layer)};
  }

 private:
  SyntheticRows rows_;
  SyntheticRows::Chunk chunk_;
  int context_;
};

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

struct Context {
  int rows = 0;
  int dense_rows = 0;  ///< of all lanes
  StepReport last;
  std::size_t moved_in_bytes = 0;  ///< of all steps
  std::vector<KernelCount> kernels;
  std::vector<KernelCount> dense;

  [[nodiscard]] PerRow step() const {
    return {kernels, static_cast<double>(last.rows.total()) * steps};
  }

  [[nodiscard]] PerRow dense_step() const { return {dense, static_cast<double>(dense_rows)}; }
};

/// A sequence in a cache, as long as its rows' context.
template <class Cache, class Rows>
class Decoding {
 public:
  Decoding(Rows& rows, typename Cache::scheduler_type const& scheduler)
      : rows_(rows),
        shape_(rows.shape()),
        cache_(shape_, limits(rows.context()), scheduler),
        sequence_(cache_.open(stream())),
        out_(static_cast<std::size_t>(shape_.query_heads * shape_.head_dim)) {
    for (int first = 0; first < rows.context(); first += chunk_rows) {
      int const tokens = std::min(chunk_rows, rows.context() - first);
      cache_.begin_prefill_async(sequence_, tokens, stream());
      for (int layer = 0; layer < shape_.layers; ++layer) {
        LayerRows const chunk = rows_.chunk(layer, first, tokens, stream_);
        cache_.template prefill_async<Half>(layer, chunk.q, chunk.k, chunk.v, stream());
      }
      cache_.advance_async(stream());
    }
  }

  void step() {
    rows_.next(stream_);
    cache_.begin_async({&sequence_, 1}, stream());
    for (int layer = 0; layer < shape_.layers; ++layer) {
      LayerRows const row = rows_.row(layer);
      cache_.template attend_async<Half>(layer, row.q, row.k, row.v, out_, stream());
    }
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

  Stream stream_;
  Rows& rows_;
  Shape shape_;
  Cache cache_;
  Sequence sequence_;
  DeviceArray<float> out_;
};

/// Of attention of one layer over whole pages of exact rows.
template <int HeadDim>
std::vector<KernelCount> count_dense(Shape shape, int rows) {
  shape.layers = 1;
  Stream const stream;
  DenseRows<HeadDim> const dense(shape, 1, rows, std::size_t{1} << 30U);
  KernelCounter const counter;
  dense.attend_async(0, stream);
  check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
  return KernelCounter::kernels();
}

/// @param stay 0: the scheduler's own
template <class Cache>
typename Cache::scheduler_type scheduler_of(int stay) {
  typename Cache::scheduler_type scheduler;
  if constexpr (requires { scheduler.dense; }) {
    scheduler.dense = false;  // the ladder is what is counted
    scheduler.stay = stay > 0 ? stay : scheduler.stay;
  } else if (stay > 0) {
    throw std::invalid_argument("--stay is for KvFreeze");
  }
  return scheduler;
}

template <class Cache, class Rows>
Context count(Rows& rows, int stay) {
  Context result;
  Shape const shape = rows.shape();
  {
    Decoding<Cache, Rows> decoding(rows, scheduler_of<Cache>(stay));
    for (int i = 0; i < settling; ++i) {
      decoding.step();
    }
    KernelCounter const counter;
    for (int i = 0; i < steps; ++i) {
      decoding.step();
      result.last = decoding.report();
      result.moved_in_bytes += result.last.moved_in_bytes;
    }
    for (KernelCount const& kernel : KernelCounter::kernels()) {
      if (kernel.name != "normal_rows_kernel" && kernel.name != "queries_kernel") {
        result.kernels.push_back(kernel);
      }
    }
  }
  result.rows = result.last.length;
  result.dense_rows = shape.kv_heads * (rows.context() / 16 * 16);
  result.dense = shape.head_dim <= 64 ? count_dense<64>(shape, rows.context() / 16 * 16)
                                      : count_dense<128>(shape, rows.context() / 16 * 16);
  return result;
}

void print(char const* name, PerRow const& per_row) {
  std::printf("  %-26s %8.1f %8.1f %8.1f %10.1f\n", name, per_row.read, per_row.written,
              per_row.bytes(), per_row.instructions);
}

void print(Context const& r) {
  auto const total = static_cast<double>(r.last.rows.total());
  auto const share = [&](auto rows) { return 100.0 * static_cast<double>(rows) / total; };
  std::printf(
      "%d rows: %.1f %% exact, %.1f %% compact, %.1f %% frozen, %.1f %% asleep; a step touches "
      "%.1f bytes a row, and %.2f come from the tier\n"
      "  %-26s %8s %8s %8s %10s\n",
      r.rows, share(r.last.rows.exact), share(r.last.rows.compact), share(r.last.rows.frozen),
      share(r.last.rows.asleep), static_cast<double>(r.last.touched_bytes) / total,
      static_cast<double>(r.moved_in_bytes) / (total * steps), "a row of a lane", "B read",
      "B written", "B", "warp instr.");
  for (KernelCount const& kernel : r.kernels) {
    print(kernel.name.c_str(), PerRow({kernel}, total * steps));
  }
  print("a step", r.step());
  print("dense attention", r.dense_step());
  std::printf("  dense to step: %.2f of bytes, %.2f of instructions\n\n",
              r.dense_step().bytes() / r.step().bytes(),
              r.dense_step().instructions / r.step().instructions);
  static_cast<void>(std::fflush(stdout));
}

void write(Options const& options, std::vector<Context> const& results) {
  write_results(options, [&](std::FILE* file) {
    char const* separator = "[\n";
    for (Context const& r : results) {
      std::fprintf(file,
                   "%s  {\"rows\": %d, \"exact\": %lld, \"compact\": %lld, \"frozen\": %lld, "
                   "\"moved_in_bytes\": %zu, \"step_bytes\": %.1f, \"step_instructions\": %.1f, "
                   "\"dense_bytes\": %.1f, \"dense_instructions\": %.1f}",
                   separator, r.rows, static_cast<long long>(r.last.rows.exact),
                   static_cast<long long>(r.last.rows.compact),
                   static_cast<long long>(r.last.rows.frozen), r.moved_in_bytes, r.step().bytes(),
                   r.step().instructions, r.dense_step().bytes(), r.dense_step().instructions);
      separator = ",\n";
    }
    std::fprintf(file, "\n]\n");
  });
}

/// @throws std::invalid_argument
int number_of(char const* option, std::string_view text, int least, int most) {
  int number = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < least || number > most) {
    throw std::invalid_argument(std::string(option) + " is '" + std::string(text) +
                                "', must be a number in [" + std::to_string(least) + ", " +
                                std::to_string(most) + "]");
  }
  return number;
}

/// What the command line says beside what all benchmarks know.
struct Choice {
  std::string preset = "KvFreeze";
  std::string recording;  ///< a file; empty: rows that no model made
  std::string context;    ///< of these; empty: those of the preset
  std::string stay;       ///< of the ladder's rows; empty: the scheduler's own
};

/// @param contexts of rows that no model made
template <class Cache>
int run(Options const& options, Choice const& choice, std::vector<int> contexts) {
  if (!KernelCounter::counts()) {
    std::printf("skipped: nobody counts here\n");
    return 77;
  }
  int const stay = choice.stay.empty() ? 0 : number_of("--stay", choice.stay, 1, 1 << 15);
  std::vector<Context> results;
  if (!choice.recording.empty()) {
    RecordedRows rows(llama::read_recording(choice.recording), most_layers, settling + steps);
    results.push_back(count<Cache>(rows, stay));
    print(results.back());
  } else {
    if (options.small) {
      contexts = {1024};
    } else if (!choice.context.empty()) {
      contexts = {number_of("--context", choice.context, 256, 1 << 20)};
    }
    for (int const context : contexts) {
      MadeRows rows(context);
      results.push_back(count<Cache>(rows, stay));
      print(results.back());
    }
  }
  write(options, results);
  return 0;
}

int run(Options const& options, Choice const& choice) {
  if (choice.preset == "KvFreeze") {
    return run<presets::KvFreeze<Half, 128, 4>>(options, choice, {2048, 8192, 32768});
  }
  if (choice.preset == "AsrKfEgr") {
    return run<presets::AsrKfEgr<Half, 128, 4>>(options, choice, {2048, 8192});
  }
  if (choice.preset == "AsrKfEgrEager") {
    return run<presets::AsrKfEgrEager<Half, 128>>(options, choice, {2048, 8192});
  }
  throw std::invalid_argument("--preset is '" + choice.preset +
                              "', not KvFreeze, AsrKfEgr or AsrKfEgrEager");
}

}  // namespace

int main(int argc, char** argv) {
  Choice choice;
  std::vector<char*> others;
  for (int i = 0; i < argc; ++i) {
    std::string_view const name = argv[i];
    bool const has_value = i > 0 && i + 1 < argc;
    if (has_value && (name == "--preset" || name == "--recording")) {
      (name == "--preset" ? choice.preset : choice.recording) = argv[++i];
    } else if (has_value && name == "--context") {
      choice.context = argv[++i];
    } else if (has_value && name == "--stay") {
      choice.stay = argv[++i];
    } else {
      others.push_back(argv[i]);
    }
  }
  return run_benchmark(
      "traffic", static_cast<int>(others.size()), others.data(),
      [&](Options const& options) { return run(options, choice); },
      "[--preset NAME] [--stay STEPS] [--recording FILE | --context TOKENS] ");
}
