#pragma once

/// @file
/// @brief Calls of the CUDA runtime on their way: they fail when a test wants them to, and launches
/// are counted by kernel. Definitions of the program's own stand before the runtime's and pass on
/// what is not to fail. Faults work on any device, counts where an emulator keeps them.

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

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

/// What the launches of one kernel did, all its instantiations together.
struct KernelCount {
  std::string name;
  int launches = 0;
  unsigned long long load_bytes = 0;
  unsigned long long load_sectors = 0;  ///< of 32 bytes
  unsigned long long store_bytes = 0;
  unsigned long long store_sectors = 0;
  unsigned long long warp_instructions = 0;

  /// Bytes asked for of those that sectors moved; above 1 where lanes of a warp share them.
  [[nodiscard]] double efficiency() const {
    auto const sectors = static_cast<double>(load_sectors + store_sectors);
    return static_cast<double>(load_bytes + store_bytes) / (32.0 * sectors);
  }
};

/// @brief While it lives every launch is waited for and counted. One at a time, and not while a
/// graph is captured.
class KernelCounter {
 public:
  KernelCounter();
  KernelCounter(KernelCounter const&) = delete;
  KernelCounter& operator=(KernelCounter const&) = delete;
  ~KernelCounter();

  /// Does anybody count?
  [[nodiscard]] static bool counts();

  /// In the order of their first launches.
  [[nodiscard]] static std::vector<KernelCount> const& kernels();
};

}  // namespace kvfreeze::gpu::test
