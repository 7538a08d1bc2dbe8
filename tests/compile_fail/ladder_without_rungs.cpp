// expect: kvfreeze: compact rows need a scheduler with rungs
#include "ladder.hpp"

#ifdef KVFREEZE_FIXED
using Cache = Ladder<>;
#else
using Cache =
    Ladder<kvfreeze::InstantMassScorer<kvfreeze::KeyCodes<4>>, kvfreeze::KeepAllScheduler>;
#endif

template std::size_t rows_of(Cache const&, kvfreeze::Sequence);
