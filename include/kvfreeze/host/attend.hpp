#pragma once

#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/observe.hpp>

namespace kvfreeze::host {

/// @brief Attention of one token over the exact rows of a lane, with evidence in the same pass.
/// @param q the lane's queries, [lane_queries][head_dim]; already in the scratch, in octaves
/// @param out [lane_queries][head_dim]
template <class C>
void attend_lane(LaneJob<C> const& job, float* out) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  int const dim = g.shape.head_dim;
  RowList const list = list_rows(job, false);
  float* const logits = wants_logits<C> ? scratch.logits() : nullptr;
  for (int head = 0; head < g.heads_per_lane; ++head) {
    std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
    OnlineSoftmax const state{g.group, dim, scratch.max(), scratch.sum(), scratch.out()};
    state.reset();
    attend(ref.row_blocks(head), list.slots, list.count, scratch.query() + first * dim, state,
           logits == nullptr ? nullptr : logits + first * scratch.stride(), scratch.stride());
    state.finish(out + first * dim, nullptr);
  }
  ref.lane->touched += static_cast<std::size_t>(list.count) * 2U *
                       static_cast<std::size_t>(g.row_elements) * g.element_bytes;
  observe_logits(job, list, scratch.logits(), scratch.stride());
}

}  // namespace kvfreeze::host
