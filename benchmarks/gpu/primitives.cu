// Public device primitives against the device-wide algorithm of CUB that a user would take instead,
// in one process, taking turns, each as a CUDA graph, with a cold L2. Medians. The ratio is the
// figure to quote; GB/s counts what has to be moved once, beside a measured copy.
//
//   primitives [--small] [--out FILE]      --small: sizes and rounds for an emulator

#include <kvfreeze/gpu/compact.cuh>
#include <kvfreeze/gpu/entropy.cuh>
#include <kvfreeze/gpu/top_k.cuh>
#include <kvfreeze/gpu/top_p.cuh>

#include "harness.cuh"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_reduce.cuh>
#include <cub/device/device_select.cuh>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using namespace kvfreeze::gpu::bench;

struct Settings : Options {
  [[nodiscard]] int rounds() const { return small ? 2 : 51; }

  [[nodiscard]] std::size_t scaled(std::size_t n) const { return small ? n / 64 + 3 : n; }
};

/// Work that is launched again and again.
class Graph {
 public:
  template <class F>
  Graph(Stream const& stream, F const& enqueue) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "begin");
    enqueue();
    check(cudaStreamEndCapture(stream.get(), &graph), "end");
    check(cudaGraphInstantiate(&run_, graph, 0), "cudaGraphInstantiate");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }

  Graph(Graph const&) = delete;
  Graph& operator=(Graph const&) = delete;

  ~Graph() { static_cast<void>(cudaGraphExecDestroy(run_)); }

  [[nodiscard]] cudaGraphExec_t get() const { return run_; }

 private:
  cudaGraphExec_t run_ = nullptr;
};

/// Times of graphs with a cold L2.
class GraphTimer {
 public:
  GraphTimer(Settings const& settings, Stream const& stream)
      : stream_(stream), timer_(stream), flush_(settings.small ? 4096 : std::size_t{256} << 20) {}

  /// Microseconds of one launch; what was in L2 is not any more.
  double launch(Graph const& graph) {
    check(cudaMemsetAsync(flush_.data(), 1, flush_.size(), stream_.get()), "cudaMemsetAsync");
    return timer_.once(
        [&] { check(cudaGraphLaunch(graph.get(), stream_.get()), "cudaGraphLaunch"); });
  }

 private:
  Stream const& stream_;
  Timer timer_;
  DeviceArray<std::byte> flush_;
};

struct Result {
  std::string name;
  std::string reference;
  double ours_us = 0.0;
  double reference_us = 0.0;
  double bytes = 0.0;
};

class Report {
 public:
  Report(Settings const& settings, Stream const& stream)
      : settings_(settings), stream_(stream), timer_(settings, stream) {}

  /// Bytes a second that a copy reads and writes.
  void measure_copy() {
    std::size_t const bytes = settings_.small ? 1 << 16 : std::size_t{512} << 20;
    DeviceArray<std::byte> const from(bytes);
    DeviceArray<std::byte> const to(bytes);
    check(cudaMemset(from.data(), 1, bytes), "cudaMemset");
    Graph const graph(stream_, [&] {
      check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream_.get()),
            "cudaMemcpyAsync");
    });
    std::vector<double> times;
    for (int round = 0; round <= settings_.rounds(); ++round) {
      times.push_back(timer_.launch(graph));
    }
    copy_gb_ = 2.0 * static_cast<double>(bytes) / (1000.0 * median(times));
    if (settings_.small) {
      std::printf("--small: the times say nothing\n");
    }
    std::printf("device copy: %.0f GB/s\n\n%-34s %10s %-30s %10s %7s %8s %7s\n", copy_gb_,
                "primitive", "us", "reference", "us", "ratio", "GB/s", "of copy");
  }

  /// @param bytes that have to be read or written once
  void compare(std::string name, Graph const& ours, std::string reference_name,
               Graph const& reference, std::size_t bytes) {
    std::vector<double> a;
    std::vector<double> b;
    for (int round = 0; round <= settings_.rounds(); ++round) {
      double const first = timer_.launch(ours);
      double const second = timer_.launch(reference);
      if (round > 0) {  // the first warms up
        a.push_back(first);
        b.push_back(second);
      }
    }
    results_.push_back({std::move(name), std::move(reference_name), median(a), median(b),
                        static_cast<double>(bytes)});
    Result const& r = results_.back();
    double const gb = r.bytes / (1000.0 * r.ours_us);
    std::printf("%-34s %10.2f %-30s %10.2f %7.2f %8.1f %6.0f%%\n", r.name.c_str(), r.ours_us,
                r.reference.c_str(), r.reference_us, r.reference_us / r.ours_us, gb,
                100.0 * gb / copy_gb_);
    std::fflush(stdout);
  }

  void write() const {
    write_results(settings_, [&](std::FILE* file) {
      std::fprintf(file,
                   "{\n  \"device\": \"%s\",\n  \"small\": %s,\n  \"rounds\": %d,\n"
                   "  \"copy_gb_per_s\": %.1f,\n  \"results\": [",
                   device_name().c_str(), settings_.small ? "true" : "false", settings_.rounds(),
                   copy_gb_);
      char const* separator = "\n";
      for (Result const& r : results_) {
        std::fprintf(file,
                     "%s    {\"name\": \"%s\", \"us\": %.3f, \"reference\": \"%s\", "
                     "\"reference_us\": %.3f, \"bytes\": %.0f}",
                     separator, r.name.c_str(), r.ours_us, r.reference.c_str(), r.reference_us,
                     r.bytes);
        separator = ",\n";
      }
      std::fprintf(file, "\n  ]\n}\n");
    });
  }

 private:
  Settings const& settings_;
  Stream const& stream_;
  GraphTimer timer_;
  double copy_gb_ = 0.0;
  std::vector<Result> results_;
};

template <class T>
std::vector<T> download(DeviceArray<T> const& array) {
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  std::vector<T> values(array.size());
  check(cudaMemcpy(values.data(), array.data(), array.size_bytes(), cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  return values;
}

/// Normal numbers, repeated so that even large arrays are made in no time.
std::vector<float> normal_numbers(std::size_t n, float sigma) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> some(std::min<std::size_t>(n, 1 << 20));
  for (float& x : some) {
    x = normal(random);
  }
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = some[i % some.size()];
  }
  return out;
}

std::vector<std::uint32_t> even_offsets(std::size_t lanes, std::size_t length) {
  std::vector<std::uint32_t> offsets;
  for (std::size_t i = 0; i <= lanes; ++i) {
    offsets.push_back(static_cast<std::uint32_t>(i * length));
  }
  return offsets;
}

void require(bool condition, char const* what) {
  if (!condition) {
    throw Error(std::string("the two do not agree: ") + what);
  }
}

/// CUB's temporary memory: asked for, then passed.
template <class F>
struct Cub {
  F call;  ///< call(memory, bytes)
  DeviceArray<std::byte> memory;

  explicit Cub(F const& f) : call(f) {
    std::size_t bytes = 0;
    check(call(nullptr, bytes), "cub");
    memory = DeviceArray<std::byte>(std::max<std::size_t>(bytes, 1));
  }

  void operator()() {
    std::size_t bytes = memory.size();
    check(call(memory.data(), bytes), "cub");
  }
};

std::string shape(char const* name, std::size_t lanes, std::size_t length) {
  return std::string(name) + " " + std::to_string(lanes) + " x " + std::to_string(length);
}

/// Orders as the float does, as unsigned.
std::uint32_t ordered(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// Sorts pairs of a key and its position, of all lanes together: less than a user would need, who
/// has to keep them apart.
class Sort {
 public:
  Sort(Stream const& stream, std::vector<std::uint32_t> const& keys)
      : stream_(stream), keys_(upload(keys)), sorted_keys_(keys.size()), order_(keys.size()) {
    std::vector<std::uint32_t> positions(keys.size());
    std::iota(positions.begin(), positions.end(), 0U);
    positions_ = upload(positions);
    std::size_t bytes = 0;
    enqueue(nullptr, bytes);
    memory_ = DeviceArray<std::byte>(std::max<std::size_t>(bytes, 1));
  }

  void operator()() {
    std::size_t bytes = memory_.size();
    enqueue(memory_.data(), bytes);
  }

  [[nodiscard]] DeviceArray<std::uint32_t> const& order() const { return order_; }

 private:
  void enqueue(void* memory, std::size_t& bytes) {
    check(cub::DeviceRadixSort::SortPairsDescending(
              memory, bytes, keys_.data(), sorted_keys_.data(), positions_.data(), order_.data(),
              static_cast<int>(keys_.size()), 0, 32, stream_.get()),
          "cub");
  }

  Stream const& stream_;
  DeviceArray<std::uint32_t> keys_;
  DeviceArray<std::uint32_t> sorted_keys_;
  DeviceArray<std::uint32_t> order_;
  DeviceArray<std::uint32_t> positions_;
  DeviceArray<std::byte> memory_;
};

void top_k_and_top_p(Settings const& settings, Stream const& stream, Report& report,
                     std::size_t full_lanes, std::size_t full_length) {
  std::size_t const lanes = settings.small ? std::min<std::size_t>(full_lanes, 8) : full_lanes;
  std::size_t const length = settings.scaled(full_length);
  std::size_t const n = lanes * length;
  auto const numbers = normal_numbers(n, 1.0F);
  std::vector<std::uint32_t> keys(n);
  std::transform(numbers.begin(), numbers.end(), keys.begin(), ordered);
  std::vector<std::uint32_t> masses(n);
  std::transform(numbers.begin(), numbers.end(), masses.begin(),
                 [](float x) { return static_cast<std::uint32_t>(std::exp(3.0F * x) * 1000.0F); });
  auto const device_scores = upload(numbers);
  auto const device_masses = upload(masses);
  auto const offsets = upload(even_offsets(lanes, length));
  DeviceArray<std::uint8_t> const selected(n);
  DeviceArray<std::uint32_t> const counts(lanes);
  Workspace const workspace(
      std::max(top_k_workspace_bytes(n, length), top_p_workspace_bytes(n, length)));
  Segments const batch(offsets, length);
  auto const k = static_cast<std::uint32_t>(length / 16);
  ::cuda::stream_ref const on(stream.get());

  Sort sort_scores(stream, keys);
  Graph const our_top_k(
      stream, [&] { top_k_async(device_scores, batch, k, {selected, counts}, workspace, on); });
  Graph const their_top_k(stream, [&] { sort_scores(); });
  report.compare(shape("top_k", lanes, length), our_top_k, "DeviceRadixSort of all", their_top_k,
                 5 * n);
  auto const marks = download(selected);
  auto const order = download(sort_scores.order());
  for (std::size_t i = 0; lanes == 1 && i < k; ++i) {
    require(marks[order[i]] == 1, "top_k");
  }

  Sort sort_masses(stream, masses);
  Graph const our_top_p(
      stream, [&] { top_p_async(device_masses, batch, 0.95F, {selected, counts}, workspace, on); });
  Graph const their_top_p(stream, [&] { sort_masses(); });
  report.compare(shape("top_p", lanes, length), our_top_p, "DeviceRadixSort of all, no sums",
                 their_top_p, 5 * n);
}

void compact_values(Settings const& settings, Stream const& stream, Report& report,
                    std::size_t full_size, unsigned percent) {
  std::size_t const n = settings.scaled(full_size);
  std::mt19937 random(2);
  std::vector<std::uint8_t> host_flags(n);
  std::vector<std::uint32_t> host_values(n);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < n; ++i) {
    host_flags[i] = random() % 100 < percent ? 1 : 0;
    host_values[i] = static_cast<std::uint32_t>(random());
    kept += host_flags[i];
  }
  auto const flags = upload(host_flags);
  auto const values = upload(host_values);
  DeviceArray<std::uint32_t> const out(n);
  DeviceArray<std::uint32_t> const their_out(n);
  DeviceArray<std::uint32_t> const count(1);
  DeviceArray<std::uint32_t> const their_count(1);
  for (auto const* const array : {&out, &their_out}) {
    check(cudaMemset(array->data(), 0, array->size_bytes()), "cudaMemset");
  }
  Workspace const workspace(compact_workspace_bytes(n));
  Graph const ours(stream, [&] {
    compact_async<std::uint32_t>(flags, values, out, count, workspace,
                                 ::cuda::stream_ref(stream.get()));
  });
  Cub select([&](void* memory, std::size_t& bytes) {
    return cub::DeviceSelect::Flagged(memory, bytes, values.data(), flags.data(), their_out.data(),
                                      their_count.data(), static_cast<int>(n), stream.get());
  });
  Graph const theirs(stream, [&] { select(); });
  report.compare("compact " + std::to_string(percent) + "% of " + std::to_string(n), ours,
                 "DeviceSelect::Flagged", theirs, n + 4 * n + 4 * kept);
  require(download(count) == download(their_count), "compact: counts");
  auto const got = download(out);
  auto const expected = download(their_out);
  require(
      std::equal(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(kept), expected.begin()),
      "compact: values");
}

void entropy_of_rows(Settings const& settings, Stream const& stream, Report& report,
                     std::size_t rows, std::size_t full_length) {
  std::size_t const length = settings.scaled(full_length);
  std::size_t const n = rows * length;
  auto const logits = upload(normal_numbers(n, 3.0F));
  DeviceArray<gpu::Entropy> const results(rows);
  DeviceArray<float> const sum(1);
  Workspace const workspace(entropy_workspace_bytes(rows, length));
  Graph const ours(stream, [&] {
    entropy_async<float>(logits, length, results, workspace, ::cuda::stream_ref(stream.get()));
  });
  Cub reduce([&](void* memory, std::size_t& bytes) {
    return cub::DeviceReduce::Sum(memory, bytes, logits.data(), sum.data(), static_cast<int>(n),
                                  stream.get());
  });
  Graph const theirs(stream, [&] { reduce(); });
  report.compare(shape("entropy", rows, length), ours, "DeviceReduce::Sum of all", theirs, 4 * n);
}

int run(Settings const& settings) {
  Stream const stream;
  Report report(settings, stream);
  report.measure_copy();
  // One lane alone; the lanes of a layer; the lanes of a model.
  top_k_and_top_p(settings, stream, report, 1, 131072);
  top_k_and_top_p(settings, stream, report, 8, 131072);
  top_k_and_top_p(settings, stream, report, 256, 8192);
  top_k_and_top_p(settings, stream, report, 1024, 2048);
  for (unsigned const percent : {5U, 50U}) {
    compact_values(settings, stream, report, 131072, percent);
    compact_values(settings, stream, report, 33554432, percent);
  }
  entropy_of_rows(settings, stream, report, 1, 128256);
  entropy_of_rows(settings, stream, report, 64, 128256);
  report.write();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark("primitives", argc, argv,
                       [](Options const& options) { return run(Settings{options}); });
}
