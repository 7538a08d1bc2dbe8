#include "all_headers.hpp"

int second() { return KVFREEZE_VERSION_MINOR; }
