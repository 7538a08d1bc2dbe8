#pragma once

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/masses.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/select.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief Work space of a layer's recall, shared by all layers. Empty where neither digests are
/// asked nor masses noted.
template <class C>
class RecallMemory {
  using Lane = typename AttentionOf<C>::Lane;
  using Lanes = typename AttentionOf<C>::Lanes;

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
        mass_workspace_(C::recalls || C::notes_masses
                            ? softmax_masses_workspace_bytes(masses(lanes_of(g)))
                            : 0),
        workspace_(C::recalls ? recall_workspace_bytes(batch(lanes_)) : 0) {
    if constexpr (C::recalls) {  // descriptions are copied whole, padding included
      check(cudaMemset(tails_.data(), 0, tails_.size_bytes()), "cudaMemset");
    }
    if (g.by_demand) {
      check(cudaMemcpy(levels_.data(), g.levels, levels_.size_bytes(), cudaMemcpyHostToDevice),
            "cudaMemcpy of water levels");
    }
  }

  /// [work lane][KV head of it]
  [[nodiscard]] Lane* tails() const noexcept { return tails_.data(); }

  /// The rows that no digest holds.
  [[nodiscard]] Lanes ranked(LayerStep<C> const& s, std::size_t lanes) const noexcept {
    std::size_t const heads = lanes * static_cast<std::size_t>(geometry_.heads_per_lane);
    return {tails_.span().subspan(0, heads), Span<std::uint32_t const>(s.ranked_rows, heads)};
  }

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

  [[nodiscard]] std::size_t bytes() const noexcept {
    return tails_.size_bytes() + results_.size_bytes() + levels_.size_bytes() +
           demands_.size_bytes() + histograms_.size_bytes() + entropies_.size_bytes() +
           mass_workspace_.bytes() + workspace_.bytes();
  }

 private:
  static std::size_t lanes_of(Geometry const& g) noexcept {
    return static_cast<std::size_t>(g.lanes_per_layer) * static_cast<std::size_t>(g.max_sequences);
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
};

}  // namespace kvfreeze::gpu::detail
