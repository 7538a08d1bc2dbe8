#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

using MassScorer = InstantMassScorer<KeyCodes<4>>;
using NestedScorer = InstantMassScorer<NestedKeyCodes<1, 5>>;
using DotScorer = MeanAbsDotScorer<KeyCodes<4>>;

KVFREEZE_ROWS_TWIN(Half, MassScorer, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, MassScorer, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(float, MassScorer, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, MassScorer, WaterLevelScheduler<true>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, MassScorer, FixedBudgetScheduler, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, RecencyScorer, KeepAllScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(Half, RecencyScorer, OverCapacityScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(Half, DotScorer, SublinearScheduler<Thaw::lazy>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, Remembering<DotScorer>, SublinearScheduler<Thaw::lazy>,
                   MissedMassTrigger);
KVFREEZE_ROWS_TWIN(float, MeanAbsDotScorer<>, SublinearScheduler<Thaw::eager>, NeverTrigger);
KVFREEZE_ROWS_TWIN(Half, NestedScorer, MassLadderScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, EmaMassScorer<KeyCodes<4>>, FixedBudgetScheduler, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, CumulativeMassScorer<>, OverCapacityScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(float, WindowMassScorer<KeyCodes<2>>, MassLadderScheduler<true>,
                   MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, Remembering<KeyNormScorer<>>, OverCapacityScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(Half, DotScorer, SublinearScheduler<Thaw::lazy>, EntropyLadderTrigger);
KVFREEZE_ROWS_TWIN(Half, MeanAbsDotScorer<>, SublinearScheduler<Thaw::eager>, EntropyLadderTrigger);
KVFREEZE_ROWS_TWIN(Half, MassScorer, WaterLevelScheduler<>, DriftOrMissed);
KVFREEZE_TIER_TWIN(Half, RecencyScorer, DiscardTier, OverCapacityScheduler, NeverTrigger);
KVFREEZE_TIER_TWIN(BFloat16, CumulativeMassScorer<>, DiscardTier, OverCapacityScheduler,
                   NeverTrigger);
KVFREEZE_TIER_TWIN(float, Remembering<KeyNormScorer<KeyCodes<4>>>, DiscardTier,
                   FixedBudgetScheduler, NeverTrigger);
KVFREEZE_TIER_TWIN(Half, MassScorer, DiscardTier, FixedBudgetScheduler, MissedMassTrigger);
KVFREEZE_TIER_TWIN(Half, RecencyScorer, InPlaceTier, KeepAllScheduler, NeverTrigger);
KVFREEZE_TIER_TWIN(Half, MassScorer, InPlaceTier, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_TIER_TWIN(BFloat16, InstantMassScorer<BoxDigest<>>, InPlaceTier, FixedBudgetScheduler,
                   NeverTrigger);
KVFREEZE_TIER_TWIN(Half, DotScorer, InPlaceTier, SublinearScheduler<Thaw::lazy>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(ByLayer<Half>, MassScorer, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(ByLayer<float>, NestedScorer, FixedBudgetScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(ByLayer<Half>, DotScorer, SublinearScheduler<Thaw::lazy>, MissedMassTrigger);
KVFREEZE_TIER_TWIN(ByLayer<BFloat16>, CumulativeMassScorer<>, DiscardTier, OverCapacityScheduler,
                   NeverTrigger);
KVFREEZE_ROWS_TWIN(ByLayer<Half>, KeyNormScorer<>, OverCapacityScheduler, NeverTrigger);

}  // namespace kvfreeze::gpu::test
