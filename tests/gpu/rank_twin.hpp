#pragma once

/// @file
/// @brief Ladders that go by ranks, of the host.

#include <kvfreeze/scheduler/head_bits_scheduler.hpp>
#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>

#include <gpu/host_twin.hpp>
#include <memory>

namespace kvfreeze::gpu::test {

/// presets::ArkvRecalled.
std::unique_ptr<HostTwin> make_rank_twin(Shape const&, Limits const&,
                                         RankLadderScheduler<true, SequenceShares> const&);

/// presets::Arkv.
std::unique_ptr<HostTwin> make_rank_twin(Shape const&, Limits const&,
                                         RankLadderScheduler<false, SequenceShares> const&);

/// presets::HeadBits.
std::unique_ptr<HostTwin> make_rank_twin(Shape const&, Limits const&, HeadBitsScheduler<> const&);

}  // namespace kvfreeze::gpu::test
