#pragma once

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/geometry.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/select.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief Work space of a layer's recall, shared by all layers. Empty where rows are not recalled
/// by their digests.
template <class C>
class RecallMemory {
 public:
  /// @throws OutOfMemory, CudaError
  RecallMemory(Geometry const& g, std::size_t lanes)
      : max_granules_(g.max_granules),
        results_(C::recalls ? lanes : 0),
        workspace_(C::recalls ? recall_workspace_bytes(batch(lanes)) : 0) {}

  [[nodiscard]] RecallBatch batch(std::size_t lanes) const noexcept {
    RecallBatch batch;
    batch.lanes = static_cast<int>(lanes);
    batch.max_granules = max_granules_;
    batch.units =
        C::needs_queries ? kvfreeze::detail::dots_per_nat : kvfreeze::detail::masses_per_one;
    return batch;
  }

  [[nodiscard]] Span<RecallResult> results(std::size_t lanes) const noexcept {
    return results_.span().subspan(0, lanes);
  }

  [[nodiscard]] Span<std::byte> workspace() const noexcept { return workspace_.span(); }

  [[nodiscard]] std::size_t bytes() const noexcept {
    return results_.size_bytes() + workspace_.bytes();
  }

 private:
  int max_granules_;
  DeviceArray<RecallResult> results_;
  Workspace workspace_;
};

}  // namespace kvfreeze::gpu::detail
