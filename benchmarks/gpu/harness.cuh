#pragma once

/// @file
/// @brief What the device's benchmarks share: their options, a stream, graphs, times between two
/// points of a stream, medians, the rate of a copy, files of results.

#include <kvfreeze/gpu/memory.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace kvfreeze::gpu::bench {

/// What the command line says.
struct Options {
  bool small = false;  ///< sizes and rounds for an emulator
  std::string out;     ///< a file for all figures as JSON; empty: none
};

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }

  Stream(Stream const&) = delete;
  Stream& operator=(Stream const&) = delete;

  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }

  [[nodiscard]] cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Work on a stream, captured once and launched again and again.
class Graph {
 public:
  /// @param enqueue what is captured: work on `stream`
  template <class F>
  Graph(Stream const& stream, F const& enqueue) : stream_(stream) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal),
          "cudaStreamBeginCapture");
    enqueue();
    check(cudaStreamEndCapture(stream.get(), &graph), "cudaStreamEndCapture");
    check(cudaGraphGetNodes(graph, nullptr, &nodes_), "cudaGraphGetNodes");
    check(cudaGraphInstantiate(&run_, graph, 0), "cudaGraphInstantiate");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }

  Graph(Graph const&) = delete;
  Graph& operator=(Graph const&) = delete;

  ~Graph() { static_cast<void>(cudaGraphExecDestroy(run_)); }

  void launch() const { check(cudaGraphLaunch(run_, stream_.get()), "cudaGraphLaunch"); }

  /// Launches and whatever else was captured.
  [[nodiscard]] std::size_t nodes() const { return nodes_; }

 private:
  Stream const& stream_;
  cudaGraphExec_t run_ = nullptr;
  std::size_t nodes_ = 0;
};

/// Times between two points of a stream.
class Timer {
 public:
  explicit Timer(Stream const& stream) : stream_(stream) {
    check(cudaEventCreate(&begin_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }

  Timer(Timer const&) = delete;
  Timer& operator=(Timer const&) = delete;

  ~Timer() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
  }

  /// Microseconds of what `enqueue` puts on the stream; waits for it.
  template <class F>
  double once(F const& enqueue) {
    check(cudaEventRecord(begin_, stream_.get()), "cudaEventRecord");
    enqueue();
    check(cudaEventRecord(end_, stream_.get()), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0.0F;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return 1000.0 * static_cast<double>(milliseconds);
  }

 private:
  Stream const& stream_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

/// @pre there are values
inline double median(std::vector<double> values) {
  auto const middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Median microseconds of one of `launches` calls of f(i), which are enqueued together.
template <class F>
double measure(Timer& timer, int rounds, int launches, F const& f) {
  std::vector<double> times;
  for (int round = 0; round <= rounds; ++round) {
    double const us = timer.once([&] {
      for (int i = 0; i < launches; ++i) {
        f(i);
      }
    });
    if (round > 0) {  // the first warms up
      times.push_back(us / launches);
    }
  }
  return median(times);
}

/// GB/s of a copy within the device, read and written, over blocks that no cache holds.
inline double copy_gb_per_s(bool small, int rounds, Stream const& stream, Timer& timer) {
  std::size_t const bytes = small ? std::size_t{1} << 16U : std::size_t{1} << 30U;
  DeviceArray<std::byte> const from(bytes);
  DeviceArray<std::byte> const to(bytes);
  check(cudaMemset(from.data(), 1, bytes), "cudaMemset");
  double const us = measure(timer, rounds, 1, [&](int) {
    check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream.get()),
          "cudaMemcpyAsync");
  });
  return 2.0 * static_cast<double>(bytes) / (1000.0 * us);  // read and written
}

template <class T>
DeviceArray<T> upload(std::vector<T> const& values) {
  DeviceArray<T> array(values.size());
  check(cudaMemcpy(array.data(), values.data(), array.size_bytes(), cudaMemcpyHostToDevice),
        "cudaMemcpy");
  return array;
}

/// The device's name, for files of results.
inline std::string device_name() {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.name;
}

/// @brief Has `write(file)` fill the file that the options name, if they do.
/// @throws Error if it cannot be written
template <class F>
void write_results(Options const& options, F const& write) {
  if (options.out.empty()) {
    return;
  }
  std::FILE* const file = std::fopen(options.out.c_str(), "w");
  if (file == nullptr) {
    throw Error("cannot write " + options.out);
  }
  write(file);
  if (std::fclose(file) != 0) {
    throw Error("cannot write " + options.out);
  }
}

/// @brief The body of main(): reads the options, leaves with 77 where there is no device, calls
/// run(options), which returns the exit status, and prints what it throws.
/// @param more options that the caller has taken out of the arguments, for the usage line
template <class F>
int run_benchmark(char const* name, int argc, char** argv, F const& run, char const* more = "") {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--small") == 0) {
      options.small = true;
    } else if (std::strcmp(argv[i], "--out") == 0 && i + 1 < argc) {
      options.out = argv[++i];
    } else {
      std::fprintf(stderr, "usage: %s %s[--small] [--out FILE]\n", name, more);
      return 2;
    }
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device\n");
    return 77;
  }
  try {
    return run(options);
  } catch (std::exception const& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace kvfreeze::gpu::bench
