#pragma once

/// @file
/// @brief Owners of device memory and of pinned host memory. They allocate when they are made, and
/// nowhere else: none of this belongs on a decode path.

#include <kvfreeze/gpu/error.cuh>

#include <cuda/std/span>

#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

namespace kvfreeze::gpu {

/// Views of device memory. The library never takes a pointer and a length apart.
template <class T>
using Span = ::cuda::std::span<T>;

namespace detail {

inline std::size_t array_bytes(std::size_t count, std::size_t element) {
  if (count > std::numeric_limits<std::size_t>::max() / element) {
    throw OutOfMemory("kvfreeze: " + std::to_string(count) + " elements of " +
                          std::to_string(element) + " bytes exceed the address space",
                      std::numeric_limits<std::size_t>::max());
  }
  return count * element;
}

[[noreturn]] inline void throw_allocation(char const* call, cudaError_t status, std::size_t bytes) {
  static_cast<void>(cudaGetLastError());
  if (status == cudaErrorMemoryAllocation) {
    throw OutOfMemory(std::string(call) + " of " + std::to_string(bytes) +
                          " bytes: " + cudaGetErrorString(status),
                      bytes);
  }
  throw CudaError(std::string(call) + " of " + std::to_string(bytes) + " bytes", status);
}

}  // namespace detail

/// @brief An array in device memory, not initialised.
/// @tparam T trivially copyable
template <class T>
class DeviceArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  DeviceArray() = default;

  /// @throws OutOfMemory if the device does not have the bytes, CudaError if there is no device
  explicit DeviceArray(std::size_t count) : size_(count) {
    std::size_t const bytes = detail::array_bytes(count, sizeof(T));
    if (bytes != 0) {
      cudaError_t const status = cudaMalloc(reinterpret_cast<void**>(&data_), bytes);
      if (status != cudaSuccess) {
        detail::throw_allocation("cudaMalloc", status, bytes);
      }
    }
  }

  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  DeviceArray(DeviceArray const&) = delete;
  DeviceArray& operator=(DeviceArray const&) = delete;

  ~DeviceArray() { static_cast<void>(cudaFree(data_)); }  // the runtime may be gone already

  [[nodiscard]] T* data() const noexcept { return data_; }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }

  [[nodiscard]] Span<T> span() const noexcept { return {data_, size_}; }

  operator Span<T>() const noexcept { return span(); }  // NOLINT(*-explicit-*)

  operator Span<T const>() const noexcept { return span(); }  // NOLINT(*-explicit-*)

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// @brief An array in pinned host memory that kernels reach through `device()`, not initialised.
/// @tparam T trivially copyable
template <class T>
class PinnedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  PinnedArray() = default;

  /// @throws OutOfMemory if the system does not pin the bytes, CudaError if there is no device
  explicit PinnedArray(std::size_t count) : size_(count) {
    std::size_t const bytes = detail::array_bytes(count, sizeof(T));
    if (bytes == 0) {
      return;
    }
    cudaError_t const status =
        cudaHostAlloc(reinterpret_cast<void**>(&data_), bytes, cudaHostAllocMapped);
    if (status != cudaSuccess) {
      detail::throw_allocation("cudaHostAlloc", status, bytes);
    }
    cudaError_t const mapped =
        cudaHostGetDevicePointer(reinterpret_cast<void**>(&device_), data_, 0);
    if (mapped != cudaSuccess) {
      static_cast<void>(cudaFreeHost(data_));
      check(mapped, "cudaHostGetDevicePointer");
    }
  }

  PinnedArray(PinnedArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        device_(std::exchange(other.device_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}

  PinnedArray& operator=(PinnedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(device_, other.device_);
    std::swap(size_, other.size_);
    return *this;
  }

  PinnedArray(PinnedArray const&) = delete;
  PinnedArray& operator=(PinnedArray const&) = delete;

  ~PinnedArray() { static_cast<void>(cudaFreeHost(data_)); }

  /// The host's address.
  [[nodiscard]] T* data() const noexcept { return data_; }

  /// The device's address of the same memory.
  [[nodiscard]] T* device() const noexcept { return device_; }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }

  T& operator[](std::size_t i) const noexcept { return data_[i]; }

  [[nodiscard]] T* begin() const noexcept { return data_; }

  [[nodiscard]] T* end() const noexcept { return data_ + size_; }

 private:
  T* data_ = nullptr;
  T* device_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace kvfreeze::gpu
