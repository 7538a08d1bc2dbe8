// expect: kvfreeze: compact rows need a scorer of masses
#include "ladder.hpp"

#ifdef KVFREEZE_FIXED
using Cache = Ladder<>;
#else
using Cache = Ladder<kvfreeze::MeanAbsDotScorer<kvfreeze::KeyCodes<4>>>;
#endif

template std::size_t rows_of(Cache const&, kvfreeze::Sequence);
