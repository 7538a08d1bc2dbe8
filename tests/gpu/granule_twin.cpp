#include <gpu/layouts.hpp>
#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

KVFREEZE_ROWS_TWIN(HalfFours, InstantMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
                   MissedMassTrigger);
KVFREEZE_ROWS_TWIN(FloatLayerPages, InstantMassScorer<CuboidDigest<16>>, SparedLayersScheduler,
                   NeverTrigger);
KVFREEZE_TIER_TWIN(BFloatPages, InstantMassScorer<BoxDigest<16>>, InPlaceTier,
                   SparedLayersScheduler, NeverTrigger);
KVFREEZE_TIER_TWIN(HalfFours, CumulativeMassScorer<>, DiscardTier, OverCapacityScheduler,
                   NeverTrigger);
KVFREEZE_TIER_TWIN(HalfPages, ValueKeyRatioScorer<>, DiscardTier, OverCapacityScheduler,
                   NeverTrigger);
KVFREEZE_ROWS_TWIN(BFloatLayerFours, Remembering<KeyNormScorer<>>, OverCapacityScheduler,
                   NeverTrigger);
KVFREEZE_ROWS_TWIN(BFloatLayerFours, LagScorer<>, OverCapacityScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(HalfFours, Remembering<MeanAbsDotScorer<KeyCodes<4>>>,
                   SublinearScheduler<Thaw::lazy>, EntropyLadderTrigger);

}  // namespace kvfreeze::gpu::test
