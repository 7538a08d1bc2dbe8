#pragma once

/// @file
/// @brief How primitives get their temporary memory: the caller asks `x_workspace_bytes(...)` and
/// hands that many bytes in. A `Workspace` is such memory that can grow between steps.

#include <kvfreeze/gpu/memory.cuh>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

/// Alignment of everything that is laid out in a workspace, and of the workspace itself.
inline constexpr std::size_t workspace_alignment = 256;

/// @brief Device memory for temporaries, as large as the largest request so far.
class Workspace {
 public:
  Workspace() = default;

  /// @throws OutOfMemory, CudaError
  explicit Workspace(std::size_t bytes) : memory_(bytes) {}

  /// @brief Makes room. Waits for the device when it must grow: not for a decode path.
  /// @throws OutOfMemory, CudaError; the old memory stays
  void reserve(std::size_t bytes) {
    if (bytes > memory_.size()) {
      memory_ = DeviceArray<std::byte>(bytes);
    }
  }

  [[nodiscard]] Span<std::byte> span() const noexcept { return memory_.span(); }

  operator Span<std::byte>() const noexcept { return span(); }  // NOLINT(*-explicit-*)

  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size(); }

 private:
  DeviceArray<std::byte> memory_;
};

namespace detail {

/// @brief Lays arrays out one behind another: the same calls say how many bytes are needed and,
/// with a base, where each array lies.
class WorkspaceLayout {
 public:
  explicit WorkspaceLayout(std::byte* base = nullptr) noexcept : base_(base) {}

  /// @return where `count` elements lie; null while only bytes are counted
  template <class T>
  T* take(std::size_t count) {
    std::size_t const at = bytes_;
    std::size_t const size = array_bytes(count, sizeof(T));
    bytes_ += (size + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* base_;
  std::size_t bytes_ = 0;
};

/// @throws InvalidArgument if a primitive's workspace is too small or not aligned
inline void check_workspace(char const* function, Span<std::byte> workspace, std::size_t needed) {
  if (workspace.size() < needed) {
    throw InvalidArgument(std::string(function) + ": the workspace has " +
                          std::to_string(workspace.size()) + " bytes, expected at least " +
                          std::to_string(needed));
  }
  auto const address = reinterpret_cast<std::uintptr_t>(workspace.data());
  if (needed != 0 && address % workspace_alignment != 0) {
    throw InvalidArgument(std::string(function) + ": the workspace begins " +
                          std::to_string(address % workspace_alignment) +
                          " bytes past a multiple of " + std::to_string(workspace_alignment));
  }
}

}  // namespace detail

}  // namespace kvfreeze::gpu
