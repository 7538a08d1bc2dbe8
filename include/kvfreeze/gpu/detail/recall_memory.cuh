#pragma once

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/detail/cooperative_launch.cuh>
#include <kvfreeze/gpu/detail/launch_attention.cuh>
#include <kvfreeze/gpu/detail/note_masses_kernel.cuh>
#include <kvfreeze/gpu/detail/recall_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/masses.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/select.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <algorithm>
#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief Work space of a layer's recall, shared by all layers. Empty where neither digests are
/// asked nor masses noted.
template <class C>
class RecallMemory {
  using Lane = typename AttentionOf<C>::Lane;

 public:
  /// @throws OutOfMemory, CudaError
  explicit RecallMemory(Geometry const& g)
      : geometry_(g),
        lanes_(C::recalls ? lanes_of(g) : 0),
        tails_(lanes_ * static_cast<std::size_t>(g.heads_per_lane)),
        results_(lanes_),
        levels_(g.by_demand ? std::size_t{host::water_levels} : 0),
        demands_(lanes_ * levels_.size()),
        histograms_(lanes_),
        entropies_(C::needs_entropy ? lanes_of(g) : 0),
        mass_workspace_(makes_masses ? mass_bytes() : 0),
        workspace_(C::recalls ? recall_workspace_bytes(batch(lanes_)) : 0),
        barriers_(makes_masses ? lanes_of(g) : 0) {
    if constexpr (makes_masses) {
      check(cudaMemset(barriers_.data(), 0, barriers_.size_bytes()), "cudaMemset");
    }
    if constexpr (C::recalls) {
      // Descriptions are copied whole, padding included.
      check(cudaMemset(tails_.data(), 0, tails_.size_bytes()), "cudaMemset");
      resident_ = with_slot_dim<C::max_head_dim>(g.head_dim, [&](auto dim) {
        return resident_blocks(recall_rows_kernel<C, dim()>, "recall_rows_kernel", rank_threads,
                               recall_shared_bytes<C, dim()>(g));
      });
    } else if constexpr (C::notes_masses) {
      resident_ =
          resident_blocks(note_masses_kernel<C>, "note_masses_kernel", rank_threads, scale_bytes());
    }
    if (g.by_demand) {
      check(cudaMemcpy(levels_.data(), g.levels, levels_.size_bytes(), cudaMemcpyHostToDevice),
            "cudaMemcpy of water levels");
    }
  }

  /// [work lane][KV head of it]
  [[nodiscard]] Lane* tails() const noexcept { return tails_.data(); }

  [[nodiscard]] MassBatch masses(std::size_t lanes) const noexcept {
    MassBatch batch;
    batch.lanes = static_cast<int>(lanes);
    batch.heads = geometry_.lane_queries;
    batch.max_rows = geometry_.max_tokens;
    batch.page_tokens = C::page;
    return batch;
  }

  [[nodiscard]] RecallBatch batch(std::size_t lanes) const noexcept {
    RecallBatch batch;
    batch.lanes = static_cast<int>(lanes);
    batch.max_granules = geometry_.max_granules;
    batch.units =
        C::needs_queries ? kvfreeze::detail::dots_per_nat : kvfreeze::detail::masses_per_one;
    batch.water_levels = Span<float const>(levels_.data(), levels_.size());
    return batch;
  }

  [[nodiscard]] RecallResults results(std::size_t lanes) const noexcept {
    return {results_.span().subspan(0, lanes), demands_.span().subspan(0, lanes * levels_.size())};
  }

  [[nodiscard]] Span<host::LogHistogram> histograms(std::size_t lanes) const noexcept {
    return histograms_.span().subspan(0, lanes);
  }

  /// Sums of entropy terms of each lane's masses, if anybody asks for them.
  [[nodiscard]] Span<unsigned long long> entropies(std::size_t lanes) const noexcept {
    return entropies_.span().subspan(0, C::needs_entropy ? lanes : 0);
  }

  [[nodiscard]] Span<std::byte> mass_workspace() const noexcept { return mass_workspace_.span(); }

  [[nodiscard]] Span<std::byte> workspace() const noexcept { return workspace_.span(); }

  /// Where the blocks of a lane meet: [work lane].
  [[nodiscard]] std::uint32_t* barriers() const noexcept { return barriers_.data(); }

  /// @brief The grid of a launch that makes masses: blocks of a lane, lanes. With one a lane blocks
  /// wait for nobody; more of them are resident together.
  [[nodiscard]] dim3 mass_grid(std::size_t lanes) const noexcept {
    auto const count = static_cast<unsigned>(lanes);
    int const most = rank_blocks(static_cast<int>(lanes), geometry_.max_tokens);
    return dim3(std::clamp(resident_ / count, 1U, static_cast<unsigned>(most)), count);
  }

  /// Dynamic shared memory of note_masses_kernel()'s blocks.
  [[nodiscard]] std::size_t scale_bytes() const noexcept {
    return static_cast<std::size_t>(geometry_.lane_queries) * sizeof(HeadScale);
  }

  [[nodiscard]] std::size_t bytes() const noexcept {
    return tails_.size_bytes() + results_.size_bytes() + levels_.size_bytes() +
           demands_.size_bytes() + histograms_.size_bytes() + entropies_.size_bytes() +
           mass_workspace_.bytes() + workspace_.bytes() + barriers_.size_bytes();
  }

 private:
  /// Is there a launch whose blocks meet over masses?
  static constexpr bool makes_masses = C::recalls || C::notes_masses;

  static std::size_t lanes_of(Geometry const& g) noexcept {
    return static_cast<std::size_t>(g.lanes_per_layer) * static_cast<std::size_t>(g.max_sequences);
  }

  /// Fewer lanes have more blocks each, and may need more than all of them.
  [[nodiscard]] std::size_t mass_bytes() const {
    auto const step = static_cast<std::size_t>(geometry_.lanes_per_layer);
    std::size_t most = 0;
    for (std::size_t lanes = step; lanes <= lanes_of(geometry_); lanes += step) {
      most = std::max(most, softmax_masses_workspace_bytes(masses(lanes)));
    }
    return most;
  }

  Geometry geometry_;
  std::size_t lanes_;
  DeviceArray<Lane> tails_;
  DeviceArray<RecallResult> results_;
  DeviceArray<float> levels_;           ///< of the water, where a cap is met by it
  DeviceArray<std::uint32_t> demands_;  ///< [lanes][water_levels]
  DeviceArray<host::LogHistogram> histograms_;
  DeviceArray<unsigned long long> entropies_;
  Workspace mass_workspace_;
  Workspace workspace_;
  DeviceArray<std::uint32_t> barriers_;
  unsigned resident_ = 0;  ///< blocks of that launch that the device holds at once
};

}  // namespace kvfreeze::gpu::detail
