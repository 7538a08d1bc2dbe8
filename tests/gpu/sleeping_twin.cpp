#include <gpu/ladders.hpp>
#include <gpu/layouts.hpp>
#include <gpu/make_rows_twin.hpp>

namespace kvfreeze::gpu::test {

KVFREEZE_ROWS_TWIN(HalfLadder, ScreenedMass, LadderScheduler<true>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(HalfLadder, ScreenedMass, LadderScheduler<true>, EntropyLadderTrigger);

}  // namespace kvfreeze::gpu::test
