#pragma once

#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/host/virtual_memory.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace kvfreeze::gpu::detail {

/// @brief One large block of host memory: pinned and mapped if the system allows, else ordinary
/// memory, committed at once either way.
class Slab {
 public:
  Slab() = default;

  /// @throws OutOfMemory if there is not even ordinary memory
  /// @throws CudaError for any failure that is not a refusal to pin
  explicit Slab(std::size_t bytes) : bytes_(bytes) {
    try {
      pinned_ = PinnedArray<std::byte>(bytes);
      return;
    } catch (OutOfMemory const& error) {
      refusal_ = error.what();
    } catch (CudaError const& error) {
      if (error.code() != cudaErrorNotSupported && error.code() != cudaErrorOperatingSystem) {
        throw;
      }
      refusal_ = error.what();
    }
    pageable_ = host::VirtualMemory::reserve(bytes);
    for (std::size_t i = 0; i < bytes; i += host::VirtualMemory::page_bytes()) {
      pageable_.data()[i] = std::byte{0};  // commits the page: bytes() is what the process pays
    }
  }

  [[nodiscard]] std::byte* data() const noexcept {
    return pageable_.data() != nullptr ? pageable_.data() : pinned_.data();
  }

  /// The device's address; null if the memory is not pinned.
  [[nodiscard]] std::byte* device() const noexcept { return pinned_.device(); }

  [[nodiscard]] std::size_t bytes() const noexcept { return data() != nullptr ? bytes_ : 0; }

  /// Why the memory is not pinned; empty if it is.
  [[nodiscard]] std::string const& refusal() const noexcept { return refusal_; }

 private:
  PinnedArray<std::byte> pinned_;
  host::VirtualMemory pageable_;
  std::string refusal_;
  std::size_t bytes_ = 0;
};

}  // namespace kvfreeze::gpu::detail
