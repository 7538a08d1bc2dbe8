// Scattered rows between pinned host memory and the device: the movers' kernels against the copy
// engines, one large copy (the line rate) and a batch of copies (cudaMemcpyBatchAsync), in one
// process, taking turns. Medians of device time. A row is K and V together, [K][V] on both sides,
// so that a copy engine needs one block for it; the movers take two parts wherever they lie.
//
//   movers [--small] [--out FILE]      --small: sizes and rounds for an emulator

#include <kvfreeze/gpu/copy_batch.cuh>
#include <kvfreeze/gpu/movers.cuh>

#include "harness.cuh"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using namespace kvfreeze::gpu::bench;

struct Settings : Options {
  [[nodiscard]] int rounds() const { return small ? 2 : 31; }

  /// Of the host's slab: more than any cache on the way.
  [[nodiscard]] std::size_t slab_bytes() const {
    return small ? std::size_t{1} << 18U : std::size_t{1} << 30U;
  }

  /// Rows of a launch: a few as in a step of one sequence, and as many as make up 64 MiB.
  [[nodiscard]] std::vector<std::size_t> counts(std::size_t row_bytes) const {
    std::size_t const many = (small ? std::size_t{1} << 16U : std::size_t{64} << 20U) / row_bytes;
    return many > 64 ? std::vector<std::size_t>{64, many} : std::vector<std::size_t>{many};
  }
};

struct Times {
  double device_us = 0.0;
  double host_us = 0.0;  ///< until the calls came back
};

template <class F>
Times times_of(Timer& timer, F const& enqueue) {
  Times times;
  times.device_us = timer.once([&] {
    auto const start = std::chrono::steady_clock::now();
    enqueue();
    auto const end = std::chrono::steady_clock::now();
    times.host_us = std::chrono::duration<double, std::micro>(end - start).count();
  });
  return times;
}

/// Rows of one size, a list of them scattered over both sides.
class Scattered {
 public:
  Scattered(Settings const& settings, std::size_t row_bytes, std::size_t count,
            PinnedArray<std::byte> const& slab, DeviceArray<std::byte> const& pool)
      : row_bytes_(row_bytes),
        slab_(slab),
        geometry_{1, 1, static_cast<std::uint32_t>(settings.slab_bytes() / row_bytes),
                  row_bytes / 2},
        pool_{pool.span().first(pool.size() / row_bytes * row_bytes),
              static_cast<std::uint32_t>(row_bytes / 2),
              1,
              1,
              row_bytes,
              row_bytes / 2},
        list_(count),
        count_(1),
        table_(1) {
    std::mt19937 random(7);
    auto const shuffled = [&](std::size_t size) {
      std::vector<std::uint32_t> numbers(size);
      std::iota(numbers.begin(), numbers.end(), 0U);
      std::shuffle(numbers.begin(), numbers.end(), random);
      numbers.resize(count);
      return numbers;
    };
    auto const slots = shuffled(pool_.slots());
    auto const granules = shuffled(geometry_.granules);
    for (std::size_t i = 0; i < count; ++i) {
      jobs_.push_back({slots[i], 0, granules[i], 0, 0, 1});
      on_device_.push_back(pool.data() + std::size_t{slots[i]} * row_bytes);
      on_host_.push_back(slab.data() + std::size_t{granules[i]} * row_bytes);
      sizes_.push_back(row_bytes);
    }
    device_sources_.assign(on_device_.begin(), on_device_.end());
    host_sources_.assign(on_host_.begin(), on_host_.end());
    auto const n = static_cast<std::uint32_t>(count);
    std::byte* const base = slab.device();
    check(cudaMemcpy(list_.data(), jobs_.data(), list_.size_bytes(), cudaMemcpyHostToDevice),
          "cudaMemcpy");
    check(cudaMemcpy(count_.data(), &n, sizeof n, cudaMemcpyHostToDevice), "cudaMemcpy");
    check(cudaMemcpy(table_.data(), &base, sizeof base, cudaMemcpyHostToDevice), "cudaMemcpy");
  }

  [[nodiscard]] TierSlots tier() const {
    return {Span<std::byte* const>(table_.data(), 1), geometry_};
  }

  void thaw(Stream const& stream) const {
    thaw_async(list_, count_, tier(), pool_, {}, ::cuda::stream_ref{stream.get()});
  }

  void freeze(Stream const& stream) const {
    freeze_async(list_, count_, pool_, tier(), {}, ::cuda::stream_ref{stream.get()});
  }

  void batch_in(Stream const& stream) const {
    copy_batch_async(on_device_, host_sources_, sizes_, ::cuda::stream_ref{stream.get()});
  }

  void batch_out(Stream const& stream) const {
    copy_batch_async(on_host_, device_sources_, sizes_, ::cuda::stream_ref{stream.get()});
  }

  /// Are the rows of the list the same on both sides?
  [[nodiscard]] bool same(Stream const& stream) const {
    check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
    std::vector<std::byte> row(row_bytes_);
    for (std::size_t i = 0; i < jobs_.size(); i += jobs_.size() / 50 + 1) {
      check(cudaMemcpy(row.data(), on_device_[i], row_bytes_, cudaMemcpyDeviceToHost),
            "cudaMemcpy");
      if (std::memcmp(row.data(), on_host_[i], row_bytes_) != 0) {
        return false;
      }
    }
    return true;
  }

 private:
  std::size_t row_bytes_;
  PinnedArray<std::byte> const& slab_;
  TierGeometry geometry_;
  GranulePool pool_;
  DeviceArray<MoveJob> list_;
  DeviceArray<std::uint32_t> count_;
  DeviceArray<std::byte*> table_;
  std::vector<MoveJob> jobs_;
  std::vector<void*> on_device_;
  std::vector<void*> on_host_;
  std::vector<void const*> device_sources_;
  std::vector<void const*> host_sources_;
  std::vector<std::size_t> sizes_;
};

struct Result {
  char const* direction = "";
  std::size_t row_bytes = 0;
  std::size_t rows = 0;
  double kernel_us = 0.0;
  double batch_us = 0.0;       ///< 0: not measured
  double batch_host_us = 0.0;  ///< of the calling thread
  double line_us = 0.0;        ///< one copy of as many bytes

  [[nodiscard]] double gb_per_s(double us) const {
    return us > 0.0 ? 1e-3 * static_cast<double>(row_bytes * rows) / us : 0.0;
  }
};

class Report {
 public:
  explicit Report(Settings const& settings)
      : settings_(settings),
        timer_(stream_),
        slab_(settings.slab_bytes()),
        pool_(settings.slab_bytes() / 4) {
    for (std::size_t i = 0; i < slab_.size(); ++i) {
      slab_[i] = static_cast<std::byte>((i * 2654435761U) >> 13U);
    }
    check(cudaMemset(pool_.data(), 0, pool_.size()), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  /// @return false if rows came out wrong
  [[nodiscard]] bool measure(std::size_t row_bytes, std::size_t rows) {
    Scattered const scattered(settings_, row_bytes, rows, slab_, pool_);
    std::size_t const bytes = row_bytes * rows;
    bool const batches = rows <= 65536;  // a driver takes seconds for more
    bool right = true;
    for (bool const in : {true, false}) {
      std::vector<double> kernel;
      std::vector<double> batch;
      std::vector<double> batch_host;
      std::vector<double> line;
      for (int round = 0; round < settings_.rounds() + 1; ++round) {
        auto const moved =
            times_of(timer_, [&] { in ? scattered.thaw(stream_) : scattered.freeze(stream_); });
        right = right && scattered.same(stream_);
        auto const copied = times_of(timer_, [&] {
          check(in ? cudaMemcpyAsync(pool_.data(), slab_.data(), bytes, cudaMemcpyHostToDevice,
                                     stream_.get())
                   : cudaMemcpyAsync(slab_.data(), pool_.data(), bytes, cudaMemcpyDeviceToHost,
                                     stream_.get()),
                "cudaMemcpyAsync");
        });
        Times batched;
        if (batches) {
          batched = times_of(
              timer_, [&] { in ? scattered.batch_in(stream_) : scattered.batch_out(stream_); });
        }
        if (round > 0) {  // the first one warms up
          kernel.push_back(moved.device_us);
          line.push_back(copied.device_us);
          batch.push_back(batched.device_us);
          batch_host.push_back(batched.host_us);
        }
      }
      Result result{in ? "thaw" : "freeze", row_bytes, rows};
      result.kernel_us = median(kernel);
      result.batch_us = median(batch);
      result.batch_host_us = median(batch_host);
      result.line_us = median(line);
      results_.push_back(result);
      std::printf(
          "%-7s %6zu B x %7zu  %9.1f us %6.1f GB/s  %5.1f %% of line  batch %9.1f us "
          "(host %9.1f us)  line %9.1f us %6.1f GB/s\n",
          result.direction, row_bytes, rows, result.kernel_us, result.gb_per_s(result.kernel_us),
          100.0 * result.line_us / result.kernel_us, result.batch_us, result.batch_host_us,
          result.line_us, result.gb_per_s(result.line_us));
    }
    return right;
  }

  void write() const {
    write_results(settings_, [&](std::FILE* file) {
      std::fprintf(file, "{\"benchmark\": \"movers\", \"device\": \"%s\", \"rounds\": %d,\n",
                   device_name().c_str(), settings_.rounds());
      std::fprintf(file, " \"results\": [");
      for (std::size_t i = 0; i < results_.size(); ++i) {
        Result const& r = results_[i];
        std::fprintf(file,
                     "%s\n  {\"direction\": \"%s\", \"row_bytes\": %zu, \"rows\": %zu, "
                     "\"kernel_us\": %.3f, \"kernel_gb_per_s\": %.3f, \"batch_us\": %.3f, "
                     "\"batch_host_us\": %.3f, \"line_us\": %.3f, \"line_gb_per_s\": %.3f, "
                     "\"share_of_line\": %.4f}",
                     i > 0 ? "," : "", r.direction, r.row_bytes, r.rows, r.kernel_us,
                     r.gb_per_s(r.kernel_us), r.batch_us, r.batch_host_us, r.line_us,
                     r.gb_per_s(r.line_us), r.line_us / r.kernel_us);
      }
      std::fprintf(file, "\n ]}\n");
    });
  }

 private:
  Settings const& settings_;
  Stream stream_;
  Timer timer_;
  PinnedArray<std::byte> slab_;
  DeviceArray<std::byte> pool_;
  std::vector<Result> results_;
};

int run(Settings const& settings) {
  Report report(settings);
  bool right = true;
  for (std::size_t const row_bytes : {128U, 256U, 512U, 4096U, 16384U}) {
    for (std::size_t const rows : settings.counts(row_bytes)) {
      right = report.measure(row_bytes, rows) && right;
    }
  }
  report.write();
  if (!right) {
    std::fprintf(stderr, "rows came out wrong\n");
  }
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark("movers", argc, argv,
                       [](Options const& options) { return run(Settings{options}); });
}
