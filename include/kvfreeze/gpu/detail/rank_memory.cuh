#pragma once

#include <kvfreeze/gpu/detail/launch_rank.cuh>
#include <kvfreeze/gpu/geometry.cuh>
#include <kvfreeze/gpu/memory.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What the blocks that rank a lane's rows leave to each other, shared by all layers. Empty
/// where nothing is ranked.
template <class C>
class RankMemory {
 public:
  /// @throws OutOfMemory, CudaError
  RankMemory(Geometry const& g, std::size_t lanes)
      : heads_(g.lane_queries),
        work_(C::ranks ? lanes : 0),
        barriers_(work_.size()),
        keys_(array_bytes(work_.size(), heads() * most_rank_blocks)),
        references_(work_.size() * heads()),
        sums_(keys_.size()),
        first_sums_(keys_.size()),
        verdicts_(work_.size()),
        marks_(array_bytes(work_.size(), 2 * mark_words(g))),
        span_masses_(C::span > 1 ? array_bytes(work_.size(), spans(g)) : 0) {
    if constexpr (C::ranks) {
      check(cudaMemset(barriers_.data(), 0, barriers_.size_bytes()), "cudaMemset");
      check(cudaMemset(work_.data(), 0, work_.size_bytes()), "cudaMemset");
      grid_ = rank_grid<C>(g);
    }
  }

  /// @param highest, first_weights [lanes][heads]
  [[nodiscard]] MassPlan plan(float* highest, float* first_weights,
                              host::LogHistogram* histograms) const noexcept {
    MassPlan plan;
    plan.heads = heads_;
    plan.share = 0x1p30F / static_cast<float>(heads_);
    plan.keys = keys_.data();
    plan.references = references_.data();
    plan.sums = sums_.data();
    plan.first_sums = first_sums_.data();
    plan.highest = highest;
    plan.first_weights = first_weights;
    plan.histograms = histograms;
    return plan;
  }

  [[nodiscard]] RankGrid const& grid() const noexcept { return grid_; }

  [[nodiscard]] std::uint32_t* barriers() const noexcept { return barriers_.data(); }

  [[nodiscard]] LadderVerdict* verdicts() const noexcept { return verdicts_.data(); }

  /// Bits of each lane's rows, twice: [lanes][2][logits_stride / 32].
  [[nodiscard]] std::uint32_t* marks() const noexcept { return marks_.data(); }

  /// Masses of rows that share a verdict: [lanes][digest_rows_of() / C::span].
  [[nodiscard]] std::uint32_t* span_masses() const noexcept { return span_masses_.data(); }

  /// Rounds of a block that each lane takes: [lanes].
  [[nodiscard]] std::uint32_t* work() const noexcept { return work_.data(); }

  [[nodiscard]] std::size_t bytes() const noexcept {
    return work_.size_bytes() + barriers_.size_bytes() + keys_.size_bytes() +
           references_.size_bytes() + sums_.size_bytes() + first_sums_.size_bytes() +
           verdicts_.size_bytes() + marks_.size_bytes() + span_masses_.size_bytes();
  }

 private:
  [[nodiscard]] static std::size_t mark_words(Geometry const& g) noexcept {
    static_assert(logits_stride<C>(1) % 32 == 0);
    return static_cast<std::size_t>(logits_stride<C>(g.max_tokens) / 32);
  }

  [[nodiscard]] static std::size_t spans(Geometry const& g) noexcept {
    return static_cast<std::size_t>(digest_rows_of(g.max_tokens) / C::span);
  }

  [[nodiscard]] std::size_t heads() const noexcept { return static_cast<std::size_t>(heads_); }

  int heads_;
  DeviceArray<std::uint32_t> work_;
  DeviceArray<std::uint32_t> barriers_;
  DeviceArray<std::uint32_t> keys_;
  DeviceArray<float> references_;
  DeviceArray<std::uint64_t> sums_;
  DeviceArray<std::uint64_t> first_sums_;
  DeviceArray<LadderVerdict> verdicts_;
  DeviceArray<std::uint32_t> marks_;
  DeviceArray<std::uint32_t> span_masses_;
  RankGrid grid_;
};

}  // namespace kvfreeze::gpu::detail
