#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/uniform_scheduler.hpp>

#include <gpu/layouts.hpp>
#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

using Screened = InstantMassScorer<NestedKeyCodes<1, 5>>;
using FlatCodes = InstantMassScorer<KeyCodes<4>>;
using Ranks = RankLadderScheduler<true, SequenceShares>;

KVFREEZE_ROWS_TWIN(LadderFours, Screened, LadderScheduler<true>, EntropyLadderTrigger);
KVFREEZE_ROWS_TWIN(FlatLayerPages, FlatCodes, LadderScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(RankLayerFours, Screened, Ranks, NeverTrigger);
KVFREEZE_ROWS_TWIN(FlatLayerPages, FlatCodes, UniformScheduler, NeverTrigger);

}  // namespace kvfreeze::gpu::test
