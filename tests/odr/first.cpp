#include "all_headers.hpp"

int first() { return KVFREEZE_VERSION_MINOR; }
