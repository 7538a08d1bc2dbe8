// expect: kvfreeze: compact rows cannot have fewer key bits than the digest
#include "ladder.hpp"

#ifdef KVFREEZE_FIXED
using Cache = Ladder<>;
#else
using Cache = Ladder<kvfreeze::InstantMassScorer<kvfreeze::KeyCodes<8>>>;
#endif

template std::size_t rows_of(Cache const&, kvfreeze::Sequence);
