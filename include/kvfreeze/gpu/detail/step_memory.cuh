#pragma once

/// @file
/// @brief Work space of a layer's step, shared by all layers.

#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/gpu/detail/rank_memory.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/entropy.cuh>
#include <kvfreeze/gpu/masses.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Arrays for `max_sequences` sequences of `max_tokens`.
template <class C>
class StepMemory {
  using Lane = typename AttentionOf<C>::Lane;
  using Lanes = typename AttentionOf<C>::Lanes;

 public:
  /// @throws OutOfMemory, CudaError, InvalidArgument for a head_dim that attention does not have
  explicit StepMemory(Geometry const& g)
      : geometry_(g),
        stride_(logits_stride<C>(g.max_tokens)),
        lanes_(static_cast<std::size_t>(g.lanes_per_layer) *
               static_cast<std::size_t>(g.max_sequences)),
        queries_(array_bytes(lanes_, heads() * static_cast<std::size_t>(g.head_dim))),
        logits_(array_bytes(lanes_, heads() * static_cast<std::size_t>(stride_))),
        coded_(C::has_levels ? array_bytes(lanes_ * coded_width(),
                                           static_cast<std::size_t>(stride_ - digest_rows()))
                             : 0),
        masses_(array_bytes(lanes_, static_cast<std::size_t>(stride_))),
        granules_(masses_.size()),
        highest_(lanes_ * heads()),
        absent_(highest_.size()),
        scans_(attended_lanes(lanes_)),
        attention_(scans_.size()),
        ranked_rows_(scans_.size()),
        attended_(scans_.size() * static_cast<std::size_t>(Lane::runs)),
        histograms_(lanes_),
        tickets_(decode_attention_tickets(decode_shape(), scans_.size())),
        entropies_(static_cast<std::size_t>(g.max_sequences)),
        rank_(g, lanes_),
        workspace_(attention_bytes()) {
    check(cudaMemset(tickets_.data(), 0, tickets_.size_bytes()), "cudaMemset");
    // Descriptions are copied whole, padding included.
    check(cudaMemset(scans_.data(), 0, scans_.size_bytes()), "cudaMemset");
    check(cudaMemset(attention_.data(), 0, attention_.size_bytes()), "cudaMemset");
  }

  [[nodiscard]] LayerStep<C> layer(int layer, int sequences, std::uint32_t const* batch,
                                   std::uint32_t const* steps) const noexcept {
    LayerStep<C> s;
    s.batch = batch;
    s.steps = steps;
    s.layer = layer;
    s.lanes = sequences * geometry_.lanes_per_layer;
    s.queries = queries_.data();
    s.logits = logits_.data();
    s.coded = {coded_.data(), static_cast<std::uint32_t>(coded_width())};
    s.masses = masses_.data();
    s.granules = granules_.data();
    s.highest = highest_.data();
    s.absent = absent_.data();
    s.stride = stride_;
    s.digest_rows = digest_rows();
    s.scans = scans_.data();
    s.attention = attention_.data();
    s.ranked_rows = ranked_rows_.data();
    s.attended = attended_.data();
    s.work = rank_.work();
    s.heads = geometry_.heads_per_lane;
    return s;
  }

  /// KV heads of so many lanes: attention, scans and exact logits have a lane for each.
  [[nodiscard]] std::size_t attended_lanes(std::size_t lanes) const noexcept {
    return lanes * static_cast<std::size_t>(geometry_.heads_per_lane);
  }

  /// Queries come in octaves.
  [[nodiscard]] DecodeShape decode_shape() const noexcept {
    DecodeShape shape;
    shape.group = geometry_.group;
    shape.head_dim = geometry_.head_dim;
    shape.longest = static_cast<std::size_t>(geometry_.max_tokens);
    return shape;
  }

  /// For the ladder's ranking.
  [[nodiscard]] RankMemory<C> const& rank() const noexcept { return rank_; }

  [[nodiscard]] MassPlan rank_plan() const noexcept {
    return rank_.plan(highest_.data(), absent_.data(), histograms_.data());
  }

  [[nodiscard]] Span<float> queries(std::size_t lanes) const noexcept {
    return queries_.span().subspan(0,
                                   lanes * heads() * static_cast<std::size_t>(geometry_.head_dim));
  }

  /// What attention reads.
  [[nodiscard]] Lanes attended(std::size_t lanes) const noexcept {
    std::size_t const heads = attended_lanes(lanes);
    return {attention_.span().subspan(0, heads),
            attended_.span().subspan(0, heads * static_cast<std::size_t>(Lane::runs))};
  }

  [[nodiscard]] Span<std::uint32_t> tickets() const noexcept { return tickets_.span(); }

  [[nodiscard]] Span<std::byte> workspace() const noexcept { return workspace_.span(); }

  [[nodiscard]] Span<Entropy> entropies(std::size_t sequences) const noexcept {
    return entropies_.span().subspan(0, sequences);
  }

  /// Grows for a vocabulary: at the first step with logits, not in a captured one.
  void reserve_entropy(std::size_t rows, std::size_t vocabulary) {
    entropy_workspace_.reserve(entropy_workspace_bytes(rows, vocabulary));
  }

  [[nodiscard]] Span<std::byte> entropy_workspace() const noexcept {
    return entropy_workspace_.span();
  }

  [[nodiscard]] std::size_t bytes() const noexcept {
    return queries_.size_bytes() + logits_.size_bytes() + coded_.size_bytes() +
           masses_.size_bytes() + granules_.size_bytes() + highest_.size_bytes() +
           absent_.size_bytes() + scans_.size_bytes() + attention_.size_bytes() +
           ranked_rows_.size_bytes() + attended_.size_bytes() + histograms_.size_bytes() +
           tickets_.size_bytes() + entropies_.size_bytes() + rank_.bytes() + workspace_.bytes() +
           entropy_workspace_.bytes();
  }

 private:
  [[nodiscard]] std::size_t heads() const noexcept {
    return static_cast<std::size_t>(geometry_.lane_queries);
  }

  [[nodiscard]] std::size_t coded_width() const noexcept {
    return static_cast<std::size_t>(CodedLogits::width_of(geometry_.lane_queries));
  }

  [[nodiscard]] int digest_rows() const noexcept { return digest_rows_of(geometry_.max_tokens); }

  /// The grid depends on the number of lanes, and not in one direction.
  [[nodiscard]] std::size_t attention_bytes() const {
    std::size_t most = 0;
    for (std::size_t lanes = static_cast<std::size_t>(geometry_.lanes_per_layer); lanes <= lanes_;
         lanes += static_cast<std::size_t>(geometry_.lanes_per_layer)) {
      most = std::max(most, decode_attention_workspace_bytes<Lanes, C::max_head_dim>(
                                decode_shape(), attended_lanes(lanes)));
    }
    return most;
  }

  Geometry geometry_;
  std::ptrdiff_t stride_;
  std::size_t lanes_;
  DeviceArray<float> queries_;
  DeviceArray<float> logits_;
  DeviceArray<float> coded_;
  DeviceArray<Mass> masses_;
  DeviceArray<std::uint32_t> granules_;
  DeviceArray<float> highest_;
  DeviceArray<float> absent_;
  DeviceArray<DigestLane> scans_;
  DeviceArray<Lane> attention_;
  DeviceArray<std::uint32_t> ranked_rows_;
  DeviceArray<std::uint32_t> attended_;
  DeviceArray<host::LogHistogram> histograms_;
  DeviceArray<std::uint32_t> tickets_;
  DeviceArray<Entropy> entropies_;
  RankMemory<C> rank_;
  Workspace workspace_;
  Workspace entropy_workspace_;
};

}  // namespace kvfreeze::gpu::detail
