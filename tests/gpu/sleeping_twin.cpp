#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>

#include <gpu/layouts.hpp>
#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

using ScreenedMass = InstantMassScorer<NestedKeyCodes<1, 5>>;

KVFREEZE_ROWS_TWIN(HalfLadder, ScreenedMass, LadderScheduler<true>, MissedMassTrigger);

}  // namespace kvfreeze::gpu::test
