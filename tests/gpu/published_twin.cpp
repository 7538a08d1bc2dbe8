#include <gpu/layouts.hpp>
#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

KVFREEZE_TIER_TWIN(Half, WindowMassScorer<>, DiscardTier, LaneBudgetScheduler<PyramidShares>,
                   NeverTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, WindowMassScorer<>, LaneBudgetScheduler<TableShares<64>>,
                   MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, WindowMassScorer<KeyCodes<2>>, RecallBudgetScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(float, MeanVarianceScorer<>, FixedBudgetScheduler, NeverTrigger);
KVFREEZE_TIER_TWIN(Half, KeyDifferenceScorer<>, DiscardTier, OverCapacityScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, ValueKeyRatioScorer<KeyCodes<2>>, RecallBudgetScheduler<PyramidShares>,
                   MissedMassTrigger);
KVFREEZE_ROWS_TWIN(ByLayer<float>, ExpectedAttentionScorer<>, OverCapacityScheduler, NeverTrigger);
KVFREEZE_TIER_TWIN(Half, WindowMassScorer<>, DiscardTier, LaneBudgetScheduler<EntropyShares>,
                   NeverTrigger);
KVFREEZE_ROWS_TWIN(HalfFours, InstantMassScorer<KeyCodes<2>>, RecallBudgetScheduler<EntropyShares>,
                   MissedMassTrigger);
KVFREEZE_TIER_TWIN(Half, WindowMassScorer<>, DiscardTier, LaneBudgetScheduler<HeadSplitShares>,
                   NeverTrigger);

KVFREEZE_TIER_TWIN(Half, LagScorer<>, DiscardTier, OverCapacityScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(ByLayer<BFloat16>, LagScorer<KeyCodes<2>>, RecallBudgetScheduler<>,
                   MissedMassTrigger);

}  // namespace kvfreeze::gpu::test
