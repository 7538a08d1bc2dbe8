#include <kvfreeze/concepts.hpp>
#include <kvfreeze/version.hpp>

#include <cstdio>
#include <string>

int main() {
  std::string const version = std::to_string(KVFREEZE_VERSION_MAJOR) + "." +
                              std::to_string(KVFREEZE_VERSION_MINOR) + "." +
                              std::to_string(KVFREEZE_VERSION_PATCH);
  std::printf("kvfreeze %s\n", version.c_str());
  return version == EXPECTED_VERSION ? 0 : 1;
}
