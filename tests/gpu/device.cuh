#pragma once

/// @file
/// @brief What GPU tests share: arrays to and from the device, and the counters that an emulator
/// keeps. On a real device there are no counters; tests of them then say so and pass.

#include <kvfreeze/gpu/memory.cuh>

#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>
#include <gpu/emulator_counters.hpp>
#include <optional>
#include <support/short_tests.hpp>
#include <vector>

namespace kvfreeze::gpu::test {

/// Steps of a history: fewer in short tests, but enough for rows to leave a window and a digest
/// group.
inline int steps(int all) {
  return kvfreeze_test::short_tests() ? std::max(all / 2, std::min(all, 100)) : all;
}

/// A stream of a test's own: never the default one, which would hide missing order.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }

  Stream(Stream const&) = delete;
  Stream& operator=(Stream const&) = delete;

  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }

  operator ::cuda::stream_ref() const noexcept {  // NOLINT(*-explicit-*)
    return ::cuda::stream_ref{stream_};
  }

  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }

  void wait() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Work on a stream that is captured once and launched again and again. While it is captured no
/// thread may call anything that waits or allocates.
class Graph {
 public:
  Graph() = default;

  template <class F>
  Graph(Stream const& stream, F const& enqueue) {
    capture(stream, enqueue);
  }

  Graph(Graph const&) = delete;
  Graph& operator=(Graph const&) = delete;

  ~Graph() {
    if (run_ != nullptr) {
      static_cast<void>(cudaGraphExecDestroy(run_));
    }
  }

  /// @param enqueue what is captured: work on `stream`
  /// @pre nothing was captured yet
  template <class F>
  void capture(Stream const& stream, F const& enqueue) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal),
          "cudaStreamBeginCapture");
    enqueue();
    check(cudaStreamEndCapture(stream.get(), &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&run_, graph, 0), "cudaGraphInstantiate");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }

  void launch(Stream const& stream) const {
    check(cudaGraphLaunch(run_, stream.get()), "cudaGraphLaunch");
  }

 private:
  cudaGraphExec_t run_ = nullptr;
};

/// @pre as many values as the array has elements
template <class T>
void copy_to(DeviceArray<T> const& array, std::vector<T> const& values) {
  if (!values.empty()) {
    check(cudaMemcpy(array.data(), values.data(), array.size_bytes(), cudaMemcpyHostToDevice),
          "cudaMemcpy to the device");
  }
}

template <class T>
DeviceArray<T> upload(std::vector<T> const& values) {
  DeviceArray<T> array(values.size());
  copy_to(array, values);
  return array;
}

template <class T>
DeviceArray<T> filled(std::size_t count, T value) {
  return upload(std::vector<T>(count, value));
}

/// What the array holds when the stream's work is done.
template <class T>
std::vector<T> download(DeviceArray<T> const& array, Stream const& stream) {
  stream.wait();
  std::vector<T> values(array.size());
  if (!values.empty()) {
    check(cudaMemcpy(values.data(), array.data(), array.size_bytes(), cudaMemcpyDeviceToHost),
          "download");
  }
  return values;
}

/// @brief What a call asked of the device; nothing where nobody counts.
/// @param f enqueues work on `stream`
template <class F>
std::optional<cudasimStats> count(Stream const& stream, F&& f) {
  if (cudasimActive == nullptr || cudasimActive() == 0) {
    f();
    stream.wait();
    return std::nullopt;
  }
  stream.wait();
  cudasimStatsEnableMemory(1);
  cudasimStatsReset();
  f();
  cudasimStats asked{};
  cudasimStatsSnapshot(&asked);  // calls of the host: before anything waits
  stream.wait();
  cudasimStats done{};
  cudasimStatsSnapshot(&done);
  cudasimStatsEnableMemory(0);
  done.host_syncs = asked.host_syncs;
  return done;
}

/// Bytes asked for of those that 32-byte sectors moved, in (0, 1].
inline double sector_efficiency(cudasimStats const& stats) {
  auto const bytes = static_cast<double>(stats.global_load_bytes + stats.global_store_bytes);
  auto const sectors = static_cast<double>(stats.global_load_sectors + stats.global_store_sectors);
  return bytes / (32.0 * sectors);
}

}  // namespace kvfreeze::gpu::test
