#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/uniform_scheduler.hpp>

#include <gpu/ladders.hpp>
#include <gpu/layouts.hpp>
#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

using Ranks = RankLadderScheduler<true, SequenceShares>;

KVFREEZE_ROWS_TWIN(LadderFours, ScreenedMass, LadderScheduler<true>, EntropyLadderTrigger);
KVFREEZE_ROWS_TWIN(FlatLayerPages, FlatMass, LadderScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(RankLayerFours, ScreenedMass, Ranks, NeverTrigger);
KVFREEZE_ROWS_TWIN(FlatLayerPages, FlatMass, UniformScheduler, NeverTrigger);

}  // namespace kvfreeze::gpu::test
