#pragma once

/// @file
/// @brief Calls of the CUDA runtime that fail when a test wants them to: definitions of the
/// program's own stand before the runtime's and pass on what is not to fail. For any device.

#include <cuda_runtime_api.h>

#include <string>

namespace kvfreeze::gpu::test {

/// Kinds of calls, to be combined by |.
struct Calls {
  static constexpr unsigned allocations = 1;        ///< of device memory
  static constexpr unsigned pins = 2;               ///< of host memory
  static constexpr unsigned launches = 4;           ///< of kernels
  static constexpr unsigned fills = 8;              ///< and copies
  static constexpr unsigned synchronisations = 16;  ///< of a stream, of the device
  static constexpr unsigned maps = 32;              ///< of pinned memory into the device's
};

/// @brief While it lives, one call fails, or all from one on. One at a time.
class CudaFault {
 public:
  /// @param calls kinds that count
  /// @param nth the one that fails, from 1 on
  /// @param sticky everything after it fails too, whatever kind it is, as after a kernel's crash
  CudaFault(unsigned calls, int nth, cudaError_t status, bool sticky = false);
  CudaFault(CudaFault const&) = delete;
  CudaFault& operator=(CudaFault const&) = delete;
  ~CudaFault();

  /// The call that failed, "" if none did yet. A launch is "launch of".
  [[nodiscard]] static std::string const& failed();
};

/// Blocks of device memory and of pinned memory that were given out and not given back.
[[nodiscard]] int live_blocks();

}  // namespace kvfreeze::gpu::test
