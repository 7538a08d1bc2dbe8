// expect: kvfreeze: there are at most three compact levels
#include <kvfreeze/compact_rows.hpp>

using Level = kvfreeze::CompactLevel<4, 4>;
#ifdef KVFREEZE_FIXED
using Rows = kvfreeze::CompactRows<Level, Level, Level>;
#else
using Rows = kvfreeze::CompactRows<Level, Level, Level, Level>;
#endif

static_assert(Rows::levels >= 3);
