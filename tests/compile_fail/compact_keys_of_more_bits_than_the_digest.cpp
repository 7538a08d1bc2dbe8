// expect: kvfreeze: compact rows with more key bits than the digest need NestedKeyCodes
#include "ladder.hpp"

#ifdef KVFREEZE_FIXED
using Cache = Ladder<>;
#else
using Cache = Ladder<kvfreeze::InstantMassScorer<kvfreeze::KeyCodes<4>>,
                     kvfreeze::LadderScheduler<>, kvfreeze::HostTier, 6>;
#endif

template std::size_t rows_of(Cache const&, kvfreeze::Sequence);
