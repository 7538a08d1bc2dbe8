#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

KVFREEZE_TIER_TWIN(Half, InstantMassScorer<ExactKeys>, InPlaceTier,
                   RecallBudgetScheduler<TableShares<64>>, NeverTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, InstantMassScorer<PartialKeys<20>>, FixedBudgetScheduler,
                   MissedMassTrigger);

}  // namespace kvfreeze::gpu::test
