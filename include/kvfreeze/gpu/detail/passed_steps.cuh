#pragma once

#include <kvfreeze/gpu/error.cuh>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Knows how many steps a stream is done with, without waiting for it.
class PassedSteps {
 public:
  /// @throws CudaError
  PassedSteps() {
    for (cudaEvent_t& event : events_) {
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
  }

  PassedSteps(PassedSteps const&) = delete;
  PassedSteps& operator=(PassedSteps const&) = delete;

  ~PassedSteps() {
    for (cudaEvent_t const event : events_) {
      static_cast<void>(cudaEventDestroy(event));
    }
  }

  /// Everything on the stream up to now belongs to steps up to `step`.
  /// @throws CudaError
  void record(std::uint32_t step, cudaStream_t stream) {
    if (count_ == events_.size()) {
      poll();
    }
    // None is free: the newest takes this step too, and tells of both when this one is done.
    std::size_t const at = (first_ + std::min(count_, events_.size() - 1)) % events_.size();
    check(cudaEventRecord(events_[at], stream), "cudaEventRecord");
    steps_[at] = step;
    count_ = std::min(count_ + 1, events_.size());
  }

  /// Looks which steps are done. @throws CudaError if work on the stream failed
  void poll() {
    while (count_ > 0) {
      cudaError_t const status = cudaEventQuery(events_[first_]);
      if (status == cudaErrorNotReady) {
        static_cast<void>(cudaGetLastError());
        return;
      }
      check(status, "cudaEventQuery");
      pop();
    }
  }

  /// Waits for all steps that were recorded. @throws CudaError if work on the stream failed
  void wait() {
    while (count_ > 0) {
      check(cudaEventSynchronize(events_[first_]), "cudaEventSynchronize");
      pop();
    }
  }

  /// All steps up to this one are done.
  void note(std::uint32_t step) noexcept { passed_ = std::max(passed_, step); }

  /// The latest step that is known to be done.
  [[nodiscard]] std::uint32_t step() const noexcept { return passed_; }

 private:
  void pop() noexcept {
    note(steps_[first_]);
    first_ = (first_ + 1) % events_.size();
    count_ -= 1;
  }

  std::array<cudaEvent_t, 8> events_{};
  std::array<std::uint32_t, 8> steps_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint32_t passed_ = 0;
};

}  // namespace kvfreeze::gpu::detail
