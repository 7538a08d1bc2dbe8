// expect: kvfreeze: PageTokens must be 1, 4 or 16
#include <kvfreeze/layout.hpp>

#ifdef KVFREEZE_FIXED
constexpr int rows = 4;
#else
constexpr int rows = 3;
#endif

static_assert(kvfreeze::LayoutPolicy<kvfreeze::Layout<kvfreeze::Half, rows>>);
