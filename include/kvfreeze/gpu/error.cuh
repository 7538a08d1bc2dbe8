#pragma once

#include <kvfreeze/error.hpp>

#include <cuda_runtime_api.h>

#include <string>

namespace kvfreeze::gpu {

/// A call of the CUDA runtime or a kernel launch failed. The message names the call.
class CudaError : public Error {
 public:
  CudaError(std::string const& call, cudaError_t code)
      : Error(call + ": " + cudaGetErrorName(code) + ": " + cudaGetErrorString(code)),
        code_(code) {}

  [[nodiscard]] cudaError_t code() const noexcept { return code_; }

 private:
  cudaError_t code_;
};

/// @brief Throws unless a runtime call succeeded, and takes its error off the thread's record.
/// @param call what was called, for the message
/// @throws CudaError
inline void check(cudaError_t status, char const* call) {
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw CudaError(call, status);
  }
}

/// @brief Throws if a kernel could not be launched. Follows every launch.
/// @param kernel its name, for the message
/// @throws CudaError
inline void check_launch(char const* kernel) {
  cudaError_t const status = cudaGetLastError();
  if (status != cudaSuccess) {
    throw CudaError(std::string("launch of ") + kernel, status);
  }
}

}  // namespace kvfreeze::gpu
