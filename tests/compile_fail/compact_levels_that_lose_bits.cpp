// expect: kvfreeze: the levels of CompactRows must not lose bits
#include <kvfreeze/compact_rows.hpp>

#ifdef KVFREEZE_FIXED
using Finer = kvfreeze::CompactLevel<4, 8>;
#else
using Finer = kvfreeze::CompactLevel<4, 2>;
#endif

static_assert(kvfreeze::CompactRows<kvfreeze::CompactLevel<4, 4>, Finer>::levels == 2);
