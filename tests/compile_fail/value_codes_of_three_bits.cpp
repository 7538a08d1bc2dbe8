// expect: kvfreeze: V codes have 2, 4 or 8 bits
#include <kvfreeze/compact_rows.hpp>

#ifdef KVFREEZE_FIXED
constexpr int bits = 4;
#else
constexpr int bits = 3;
#endif

using Rows = kvfreeze::CompactRows<kvfreeze::CompactLevel<4, bits>>;
static_assert(Rows::levels == 1 && Rows::value_bits[0] == bits);
