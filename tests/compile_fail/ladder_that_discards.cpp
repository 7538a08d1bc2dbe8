// expect: kvfreeze: compact rows need a tier that holds their exact rows
#include "ladder.hpp"

#ifdef KVFREEZE_FIXED
using Cache = Ladder<>;
#else
using Cache = Ladder<kvfreeze::InstantMassScorer<kvfreeze::KeyCodes<4>>,
                     kvfreeze::LadderScheduler<>, kvfreeze::DiscardTier>;
#endif

template std::size_t rows_of(Cache const&, kvfreeze::Sequence);
