// expect: kvfreeze: NestedKeyCodes has 2 or 4 bits below its screen
#include <kvfreeze/digest/nested_key_codes.hpp>

#ifdef KVFREEZE_FIXED
static_assert(kvfreeze::NestedKeyCodes<2, 4>::total_bits == 4);
#else
static_assert(kvfreeze::NestedKeyCodes<2, 3>::total_bits == 3);
#endif
