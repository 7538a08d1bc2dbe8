// expect: Element
#include <kvfreeze/layout.hpp>

#ifdef KVFREEZE_FIXED
using Number = float;
#else
using Number = double;
#endif

static_assert(kvfreeze::LayoutPolicy<kvfreeze::Layout<Number>>);
