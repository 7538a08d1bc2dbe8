// A real model's keys, values, queries and logits through the cache on the device, with the cache
// of the host beside it: every row's fidelity has to be the same after every step, and attention's
// outputs equal within a tolerance. Leaves with 1 where they are not, with 2 for a file that is no
// recording, with 77 where there is no device.
//
//   examples/run.sh record --steps --rows 400 --text TEXT --out FILE
//   gpu_replay FILE                                                     options.hpp has the others
//
// K and V come from the file as IEEE half, queries as float, logits as bfloat16: both caches see
// the same numbers.

#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include "../llama/recording_file.hpp"
#include "host_cache.hpp"
#include "options.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace {

namespace gpu = kvfreeze::gpu;

using kvfreeze::BFloat16;
using kvfreeze::Half;
using kvfreeze::StepReport;

class Stream {
 public:
  Stream() {
    gpu::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }

  Stream(Stream const&) = delete;
  Stream& operator=(Stream const&) = delete;

  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }

  operator ::cuda::stream_ref() const noexcept {  // NOLINT(*-explicit-*)
    return ::cuda::stream_ref{stream_};
  }

  void wait() const { gpu::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// One row of all layers, as attention takes it, on the host and on the device.
struct Row {
  std::vector<float> q;  // [layer][query head][head_dim]
  std::vector<float> k;  // [layer][KV head][head_dim]
  std::vector<float> v;
  std::vector<float> logits;
  gpu::DeviceArray<float> device_q;
  gpu::DeviceArray<float> device_k;
  gpu::DeviceArray<float> device_v;
  gpu::DeviceArray<BFloat16> device_logits;

  explicit Row(llama::Recording const& r)
      : q(r.query_elements() / static_cast<std::size_t>(r.queries)),
        k(r.row_elements() / static_cast<std::size_t>(r.rows)),
        v(k.size()),
        logits(static_cast<std::size_t>(r.vocabulary)),
        device_q(q.size()),
        device_k(k.size()),
        device_v(v.size()),
        device_logits(logits.size()) {}

  void read(llama::Recording const& r, int row) {
    auto const floats = [](auto from, auto to) {
      std::transform(from.begin(), from.end(), to, [](auto x) { return kvfreeze::to_float(x); });
    };
    auto const dim = static_cast<std::ptrdiff_t>(r.shape.head_dim);
    for (int lane = 0; lane < r.shape.layers * r.shape.kv_heads; ++lane) {
      floats(r.key(lane, row), k.begin() + lane * dim);
      floats(r.value(lane, row), v.begin() + lane * dim);
    }
    auto const first = r.query_values.begin() + static_cast<std::ptrdiff_t>(r.query_at(row, 0));
    std::copy_n(first, q.size(), q.begin());
    floats(r.logits(row), logits.begin());
    upload(device_q, q.data());
    upload(device_k, k.data());
    upload(device_v, v.data());
    upload(device_logits, r.logits(row).data());
  }

 private:
  template <class T>
  static void upload(gpu::DeviceArray<T> const& to, T const* from) {
    if (to.size() != 0) {
      gpu::check(cudaMemcpy(to.data(), from, to.size_bytes(), cudaMemcpyHostToDevice),
                 "cudaMemcpy to the device");
    }
  }
};

/// What was different, over all steps.
struct Differences {
  std::size_t rows = 0;     ///< fidelities
  std::size_t reports = 0;  ///< steps with other counts, bytes, masses or recoveries
  double output = 0.0;      ///< the largest, of a layer's largest output
  double entropy = 0.0;     ///< nats
};

/// Both caches, step by step.
class Replay {
 public:
  Replay(llama::Recording const& recording, replay::Options const& options)
      : recording_(recording),
        shape_(recording.shape),
        host_(replay::make_host_cache(shape_, limits(), scheduler(options))),
        device_(shape_, limits(), scheduler(options)),
        sequence_(device_.open(stream_)),
        row_(recording),
        expected_(row_.q.size()),
        outputs_(row_.q.size()),
        device_outputs_(row_.q.size()) {}

  void step(int row) {
    row_.read(recording_, row);
    device_.begin_async({&sequence_, 1}, stream_);
    std::size_t const queries = row_.q.size() / static_cast<std::size_t>(shape_.layers);
    std::size_t const rows = row_.k.size() / static_cast<std::size_t>(shape_.layers);
    for (int layer = 0; layer < shape_.layers; ++layer) {
      auto const l = static_cast<std::size_t>(layer);
      device_.attend_async<float>(layer, row_.device_q.span().subspan(l * queries, queries),
                                  row_.device_k.span().subspan(l * rows, rows),
                                  row_.device_v.span().subspan(l * rows, rows),
                                  device_outputs_.span().subspan(l * queries, queries), stream_);
      auto const part = [l](auto& all, std::size_t n) { return std::span(all).subspan(l * n, n); };
      host_->attend(layer, part(row_.q, queries), part(row_.k, rows), part(row_.v, rows),
                    part(expected_, queries));
    }
    device_.advance_async<BFloat16>(row_.device_logits, stream_);
    host_report_ = host_->advance(row_.logits);
    stream_.wait();
    device_report_ = device_.report(sequence_);
    compare_outputs(queries);
    compare_fidelities(row + 1);
    compare_reports();
  }

  [[nodiscard]] Differences const& differences() const { return differences_; }

  void print(int step) const {
    StepReport const& d = device_report_;
    auto const kilobytes = [](StepReport const& r) {
      return (r.ledger.rows + r.ledger.digests + r.ledger.codes) / 1024;
    };
    std::printf("%5d %8llu %8llu %8llu %9zu %9zu %9zu %8.4f %9.2e %9.2e %6zu\n", step,
                static_cast<unsigned long long>(d.rows.exact),
                static_cast<unsigned long long>(d.rows.compact),
                static_cast<unsigned long long>(d.rows.frozen), d.full_bytes / 1024,
                kilobytes(host_report_), kilobytes(d), static_cast<double>(d.missed_mass),
                differences_.output, differences_.entropy,
                differences_.rows + differences_.reports);
    static_cast<void>(std::fflush(stdout));
  }

  static void print_head() {
    std::printf("%5s %8s %8s %8s %9s %9s %9s %8s %9s %9s %6s\n", "step", "exact", "compact",
                "frozen", "full KiB", "host KiB", "dev. KiB", "missed", "output", "entropy",
                "wrong");
  }

 private:
  [[nodiscard]] kvfreeze::Limits limits() const {
    return {.max_tokens = recording_.rows, .max_sequences = 1};
  }

  static kvfreeze::LadderScheduler<> scheduler(replay::Options const& options) {
    kvfreeze::LadderScheduler<> scheduler;
    scheduler.dense = options.dense;
    return scheduler;
  }

  /// Of each layer, against its largest output.
  void compare_outputs(std::size_t width) {
    gpu::check(cudaMemcpy(outputs_.data(), device_outputs_.data(), device_outputs_.size_bytes(),
                          cudaMemcpyDeviceToHost),
               "cudaMemcpy of outputs");
    for (std::size_t first = 0; first < outputs_.size(); first += width) {
      double largest = 0.0;
      double difference = 0.0;
      for (std::size_t i = first; i < first + width; ++i) {
        auto const expected = static_cast<double>(expected_[i]);
        largest = std::max(largest, std::fabs(expected));
        double const apart = std::fabs(static_cast<double>(outputs_[i]) - expected);
        difference = apart <= difference ? difference : apart;  // NaN too
      }
      double const relative = difference / largest;
      differences_.output = relative <= differences_.output ? differences_.output : relative;
    }
  }

  void compare_fidelities(int length) {
    std::vector<kvfreeze::Fidelity> host(static_cast<std::size_t>(length));
    std::vector<kvfreeze::Fidelity> device(host.size());
    for (int layer = 0; layer < shape_.layers; ++layer) {
      for (int lane = 0; lane < shape_.kv_heads; ++lane) {
        host_->fidelities(layer, lane, host);
        device_.fidelities(sequence_, layer, lane, device, stream_);
        for (std::size_t i = 0; i < host.size(); ++i) {
          differences_.rows += host[i] == device[i] ? 0 : 1;
        }
      }
    }
  }

  void compare_reports() {
    StepReport const& h = host_report_;
    StepReport const& d = device_report_;
    bool const same = d.step == h.step && d.length == h.length && d.rows == h.rows &&
                      d.missed_mass == h.missed_mass && d.missed_mass_max == h.missed_mass_max &&
                      d.thawed_rows == h.thawed_rows && d.frozen_rows == h.frozen_rows &&
                      d.moved_in_bytes == h.moved_in_bytes && d.recovery == h.recovery &&
                      d.has_logits == h.has_logits;
    differences_.reports += same ? 0 : 1;
    differences_.entropy =
        std::max(differences_.entropy, std::fabs(static_cast<double>(d.entropy - h.entropy)));
  }

  llama::Recording const& recording_;
  kvfreeze::Shape shape_;
  Stream stream_;
  std::unique_ptr<replay::HostCache> host_;
  // No kernels for larger heads, which the models of the example engine do not have.
  gpu::KvFreezeCache<
      kvfreeze::Layout<kvfreeze::Half, 1, kvfreeze::Grouping::kv_head, kvfreeze::LadderRows, 128>>
      device_;
  kvfreeze::Sequence sequence_;
  Row row_;
  std::vector<float> expected_;
  std::vector<float> outputs_;
  gpu::DeviceArray<float> device_outputs_;
  StepReport host_report_;
  StepReport device_report_;
  Differences differences_;
};

int run(replay::Options const& options) {
  llama::Recording recording = llama::read_recording(options.file);
  if (recording.queries != recording.rows) {
    throw llama::RecordingError(
        "'" + options.file + "' has queries of " + std::to_string(recording.queries) + " of its " +
        std::to_string(recording.rows) + " rows; examples/run.sh record --steps records all");
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  if (options.layers > 0) {
    recording.keep_layers(options.layers);
  }
  int const steps = options.steps > 0 ? std::min(options.steps, recording.rows) : recording.rows;
  std::printf("%d layers, %d query heads, %d KV heads of %d; %d steps, %d logits a step\n",
              recording.shape.layers, recording.shape.query_heads, recording.shape.kv_heads,
              recording.shape.head_dim, steps, recording.vocabulary);
  Replay replay(recording, options);
  Replay::print_head();
  for (int step = 1; step <= steps; ++step) {
    replay.step(step - 1);
    if (step % options.every == 0 || step == steps) {
      replay.print(step);
    }
  }
  Differences const& found = replay.differences();
  bool const same = found.rows == 0 && found.reports == 0;
  bool const near = found.output <= options.tolerance && found.entropy <= 1e-5;
  std::printf("decisions: %s; outputs within %.1e of a layer's largest, tolerance %.1e%s\n",
              same ? "equal at every step" : "DIFFERENT", found.output, options.tolerance,
              near ? "" : ": TOO FAR");
  return same && near ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  return run(replay::parse(argc, argv));
} catch (llama::UserError const& error) {
  static_cast<void>(std::fprintf(stderr, "gpu_replay: %s\n", error.what()));
  return 2;
} catch (std::exception const& error) {
  static_cast<void>(std::fprintf(stderr, "gpu_replay: %s\n", error.what()));
  return 1;
}
