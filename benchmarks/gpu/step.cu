// A whole decode step of an 8B model's attention (32 layers, 32 query heads, 8 KV heads, head_dim
// 128, fp16): the cache with its ladder, beside paged decode attention of ours over all rows,
// exact. Both by captured graphs, by turns, medians; rates beside a measured device copy. What is
// fed to the cache, and how its mass lies: synthetic_rows.cuh.
//
//   step [--small] [--out FILE]      --small: sizes and rounds for an emulator
//
// Where the device or the host has no room for 32 layers there are fewer, and the table says so;
// contexts for which even 2 layers do not fit are left out, by name.

#include <kvfreeze/gpu/presets.cuh>

#include "dense_rows.cuh"
#include "harness.cuh"
#include "synthetic_rows.cuh"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using namespace kvfreeze::gpu::bench;

constexpr int head_dim = 128;
constexpr int group = 4;  ///< query heads of a KV head

struct Settings : Options {
  [[nodiscard]] int rounds() const { return small ? 3 : 31; }

  [[nodiscard]] std::vector<int> batches() const {
    return small ? std::vector<int>{1, 2} : std::vector<int>{1, 4, 16};
  }

  [[nodiscard]] std::vector<int> contexts() const {
    return small ? std::vector<int>{96, 160} : std::vector<int>{8192, 32768, 131072};
  }

  [[nodiscard]] int layers() const { return small ? 2 : 32; }
};

Shape shape_of(int layers) {
  return {.layers = layers, .query_heads = 8 * group, .kv_heads = 8, .head_dim = head_dim};
}

/// The cache with a batch of sequences, and its step as two graphs: all layers, and the slow clock.
class Ladder {
 public:
  Ladder(Shape const& shape, int sequences, int context, int spare)
      : shape_(shape),
        rows_(shape, sequences),
        cache_(shape, limits(sequences, context + spare), scheduler()),
        out_(static_cast<std::size_t>(sequences) * static_cast<std::size_t>(shape.query_heads) *
             static_cast<std::size_t>(shape.head_dim)) {
    for (int i = 0; i < sequences; ++i) {
      batch_.push_back(cache_.open(::cuda::stream_ref(stream_.get())));
    }
    cache_.begin_async(batch_, ::cuda::stream_ref(stream_.get()));
    layers_ = std::make_unique<Graph>(stream_, [&] {
      for (int layer = 0; layer < shape.layers; ++layer) {
        cache_.attend_async<Half>(layer, rows_.q(layer), rows_.k(layer), rows_.v(layer), out_,
                                  ::cuda::stream_ref(stream_.get()));
      }
    });
    slow_clock_ = std::make_unique<Graph>(
        stream_, [&] { cache_.advance_async(::cuda::stream_ref(stream_.get())); });
    fill(context);
  }

  /// The row of the next step; not a part of it.
  void prepare() { rows_.next(stream_); }

  void attend() { layers_->launch(); }

  void advance() {
    slow_clock_->launch();
    if (counted_) {
      cache_.count_replay();
    }
    counted_ = true;
  }

  /// Of all sequences, after the step that ended last.
  [[nodiscard]] StepReport report() const {
    check(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    StepReport sum;
    for (Sequence const sequence : batch_) {
      StepReport const r = cache_.report(sequence);
      sum.rows.exact += r.rows.exact;
      sum.rows.compact += r.rows.compact;
      sum.rows.frozen += r.rows.frozen;
      sum.touched_bytes += r.touched_bytes;
      sum.moved_in_bytes += r.moved_in_bytes;
      sum.missed_mass += r.missed_mass / static_cast<float>(batch_.size());
    }
    return sum;
  }

  [[nodiscard]] Stream const& stream() const { return stream_; }

  [[nodiscard]] double launches_per_layer() const {
    return static_cast<double>(layers_->nodes()) / shape_.layers;
  }

  [[nodiscard]] std::size_t launches_of_advance() const { return slow_clock_->nodes(); }

 private:
  static Limits limits(int sequences, int tokens) {
    Limits limits;
    limits.max_tokens = tokens;
    limits.max_sequences = sequences;
    return limits;
  }

  static LadderScheduler<> scheduler() {
    LadderScheduler<> scheduler;
    scheduler.dense = false;  // the ladder is what is measured
    return scheduler;
  }

  /// Fills every sequence up to so many rows, in chunks, and begins the batch anew.
  void fill(int context) {
    constexpr int most = 2048;
    ::cuda::stream_ref const stream(stream_.get());
    SyntheticRows::Chunk const chunk(shape_, most);
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      for (int first = 0; first < context; first += most) {
        int const tokens = std::min(most, context - first);
        auto const rows = static_cast<std::size_t>(tokens);
        std::size_t const q = rows * static_cast<std::size_t>(shape_.query_heads * shape_.head_dim);
        std::size_t const k = rows * static_cast<std::size_t>(shape_.kv_heads * shape_.head_dim);
        cache_.begin_prefill_async(batch_[i], tokens, stream);
        for (int layer = 0; layer < shape_.layers; ++layer) {
          rows_.make_chunk(chunk, layer, static_cast<int>(i), static_cast<std::uint32_t>(first),
                           tokens, stream_);
          cache_.prefill_async<Half>(layer, chunk.q.span().first(q), chunk.k.span().first(k),
                                     chunk.v.span().first(k), stream);
        }
        cache_.advance_async(stream);
      }
    }
    rows_.skip_to(static_cast<std::uint32_t>(context));
    cache_.begin_async(batch_, stream);
    check(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
  }

  Shape shape_;
  Stream stream_;
  SyntheticRows rows_;
  presets::KvFreeze<Half, head_dim, group> cache_;
  DeviceArray<float> out_;
  std::vector<Sequence> batch_;
  std::unique_ptr<Graph> layers_;
  std::unique_ptr<Graph> slow_clock_;
  bool counted_ = false;  // capturing the step counted the first one
};

struct Result {
  int sequences = 0;
  int context = 0;
  int layers = 0;
  double attend_us = 0.0;
  double advance_us = 0.0;
  double dense_us = 0.0;
  double touched_bytes = 0.0;  ///< by a step of the cache
  double moved_bytes = 0.0;    ///< from the host, by one
  double dense_bytes = 0.0;
  double exact = 0.0;  ///< shares of rows
  double compact = 0.0;
  double missed_mass = 0.0;
  double launches_per_layer = 0.0;
  std::size_t launches_of_advance = 0;

  [[nodiscard]] double step_us() const { return attend_us + advance_us; }
};

/// @throws OutOfMemory if the device or the host has no room
Result measure_step(Settings const& settings, int sequences, int context, int layers) {
  Shape const shape = shape_of(layers);
  Ladder ladder(shape, sequences, context, settings.rounds() + 2);
  std::size_t const much = settings.small ? std::size_t{1} << 20U : std::size_t{1} << 30U;
  DenseRows<head_dim> const dense(shape, sequences, context, much);
  Graph const attention(ladder.stream(), [&] {
    for (int layer = 0; layer < shape.layers; ++layer) {
      dense.attend_async(layer, ladder.stream());
    }
  });
  Timer timer(ladder.stream());
  std::vector<double> attend;
  std::vector<double> advance;
  std::vector<double> exact;
  double touched = 0.0;
  double moved = 0.0;
  for (int round = 0; round <= settings.rounds(); ++round) {
    ladder.prepare();
    double const layers_us = timer.once([&] { ladder.attend(); });
    double const advance_us = timer.once([&] { ladder.advance(); });
    double const dense_us = timer.once([&] { attention.launch(); });
    if (round == 0) {  // warms up
      continue;
    }
    attend.push_back(layers_us);
    advance.push_back(advance_us);
    exact.push_back(dense_us);
    StepReport const report = ladder.report();
    touched += static_cast<double>(report.touched_bytes) / settings.rounds();
    moved += static_cast<double>(report.moved_in_bytes) / settings.rounds();
  }
  StepReport const last = ladder.report();
  auto const rows = static_cast<double>(last.rows.total());
  return {.sequences = sequences,
          .context = context,
          .layers = layers,
          .attend_us = median(attend),
          .advance_us = median(advance),
          .dense_us = median(exact),
          .touched_bytes = touched,
          .moved_bytes = moved,
          .dense_bytes = static_cast<double>(dense.bytes()),
          .exact = static_cast<double>(last.rows.exact) / rows,
          .compact = static_cast<double>(last.rows.compact) / rows,
          .missed_mass = static_cast<double>(last.missed_mass),
          .launches_per_layer = ladder.launches_per_layer(),
          .launches_of_advance = ladder.launches_of_advance()};
}

void print(Result const& r, double copy) {
  auto const of_copy = [&](double bytes, double us) {
    return 100.0 * bytes / (1000.0 * us) / copy;
  };
  std::printf(
      "%5d %8d %6d %10.1f %9.2f %9.1f %9.1f %7.1f%% %9.1f %7.1f%% %7.2f %6.1f%% %6.1f%% %9.1f\n",
      r.sequences, r.context, r.layers, r.step_us(), r.attend_us / r.layers, r.advance_us,
      r.touched_bytes / 1e6, of_copy(r.touched_bytes, r.step_us()), r.dense_us,
      of_copy(r.dense_bytes, r.dense_us), r.dense_us / r.step_us(), 100.0 * r.exact,
      100.0 * r.compact, r.moved_bytes / 1e3);
  static_cast<void>(std::fflush(stdout));
}

void write(Settings const& settings, double copy, std::vector<Result> const& results,
           std::vector<std::string> const& left_out) {
  write_results(settings, [&](std::FILE* file) {
    std::fprintf(file,
                 "{\n  \"device\": \"%s\",\n  \"small\": %s,\n  \"rounds\": %d,\n"
                 "  \"copy_gb_per_s\": %.1f,\n  \"left_out\": [",
                 device_name().c_str(), settings.small ? "true" : "false", settings.rounds(), copy);
    char const* separator = "";
    for (std::string const& what : left_out) {
      std::fprintf(file, "%s\"%s\"", separator, what.c_str());
      separator = ", ";
    }
    std::fprintf(file, "],\n  \"results\": [");
    separator = "\n";
    for (Result const& r : results) {
      std::fprintf(file,
                   "%s    {\"batch\": %d, \"context\": %d, \"layers\": %d, \"step_us\": %.2f, "
                   "\"attend_us\": %.2f, \"advance_us\": %.2f, \"touched_bytes\": %.0f, "
                   "\"moved_bytes\": %.0f, \"dense_us\": %.2f, \"dense_bytes\": %.0f, "
                   "\"exact\": %.4f, \"compact\": %.4f, \"missed_mass\": %.4f, "
                   "\"launches_per_layer\": %.2f, \"launches_of_advance\": %zu}",
                   separator, r.sequences, r.context, r.layers, r.step_us(), r.attend_us,
                   r.advance_us, r.touched_bytes, r.moved_bytes, r.dense_us, r.dense_bytes, r.exact,
                   r.compact, r.missed_mass, r.launches_per_layer, r.launches_of_advance);
      separator = ",\n";
    }
    std::fprintf(file, "\n  ]\n}\n");
  });
}

int run(Settings const& settings) {
  double copy = 0.0;
  {
    Stream const stream;
    Timer timer(stream);
    copy = copy_gb_per_s(settings.small, settings.rounds(), stream, timer);
  }
  std::printf(
      "%sdevice copy: %.0f GB/s\n\n%5s %8s %6s %10s %9s %9s %9s %8s %9s %8s %7s %7s %7s %9s\n",
      settings.small ? "--small: the times say nothing\n" : "", copy, "batch", "context", "layers",
      "step us", "us/layer", "advance", "MB", "of copy", "dense us", "of copy", "ratio", "exact",
      "compact", "KB moved");
  std::vector<Result> results;
  std::vector<std::string> left_out;
  for (int const sequences : settings.batches()) {
    for (int const context : settings.contexts()) {
      std::string why = "fewer than two layers fit";
      bool done = false;
      for (int layers = settings.layers(); layers >= 2 && !done; layers /= 2) {
        try {
          results.push_back(measure_step(settings, sequences, context, layers));
          print(results.back(), copy);
          done = true;
        } catch (OutOfMemory const& error) {
          why = error.what();
        }
      }
      if (!done) {
        left_out.push_back("batch " + std::to_string(sequences) + ", context " +
                           std::to_string(context) + ": " + why);
        std::printf("left out: %s\n", left_out.back().c_str());
      }
    }
  }
  if (!results.empty()) {
    std::printf("\n%.1f launches a layer, %zu for the slow clock\n",
                results.front().launches_per_layer, results.front().launches_of_advance);
  }
  write(settings, copy, results, left_out);
  return results.empty() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark("step", argc, argv,
                       [](Options const& options) { return run(Settings{options}); });
}
