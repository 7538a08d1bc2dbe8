#pragma once

#include <cstdlib>

namespace kvfreeze_test {

/// Is KVFREEZE_SHORT_TESTS set? For builds and launchers that look at every access: histories are
/// shorter there.
inline bool short_tests() {
  static bool const is_set = std::getenv("KVFREEZE_SHORT_TESTS") != nullptr;
  return is_set;
}

}  // namespace kvfreeze_test
