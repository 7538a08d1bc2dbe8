#pragma once

/// @file
/// @brief Launches whose blocks wait for each other: all of them must be resident.

#include <kvfreeze/gpu/error.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <string>
#include <utility>

namespace kvfreeze::gpu::detail {

/// @brief Lets a kernel have its shared memory.
/// @return the most blocks of it that the current device holds at once; at least 1
/// @throws CudaError, also if the device has no cooperative launches or no room for a block
template <class Kernel>
unsigned resident_blocks(Kernel kernel, char const* name, int threads, std::size_t shared_bytes) {
  int device = 0;
  int multiprocessors = 0;
  int cooperates = 0;
  int blocks = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&cooperates, cudaDevAttrCooperativeLaunch, device),
        "cudaDeviceGetAttribute");
  if (cooperates == 0) {
    throw CudaError(std::string(name) + " needs cooperative launches", cudaErrorNotSupported);
  }
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes)),
        "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  if (blocks == 0) {
    throw CudaError(
        std::string(name) + " with " + std::to_string(shared_bytes) + " bytes of shared memory",
        cudaErrorCooperativeLaunchTooLarge);
  }
  return static_cast<unsigned>(blocks * multiprocessors);
}

/// @brief Launches a kernel. May be captured.
/// @param grid of at most resident_blocks() if they cooperate
/// @param cooperate blocks may wait for each other
/// @throws CudaError
template <class... Parameters, class... Arguments>
void launch_blocks(void (*kernel)(Parameters...), char const* name, dim3 grid, int threads,
                   std::size_t shared_bytes, bool cooperate, ::cuda::stream_ref stream,
                   Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = cooperate ? 1 : 0;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream.get();
  config.attrs = &attribute;
  config.numAttrs = 1;
  cudaError_t const status =
      cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw CudaError(std::string("launch of ") + name, status);
  }
}

}  // namespace kvfreeze::gpu::detail
