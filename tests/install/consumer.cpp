#include <kvfreeze/kvfreeze.hpp>

#include <array>
#include <cstdio>
#include <string>

int main() {
  std::string const version = std::to_string(KVFREEZE_VERSION_MAJOR) + "." +
                              std::to_string(KVFREEZE_VERSION_MINOR) + "." +
                              std::to_string(KVFREEZE_VERSION_PATCH);

  kvfreeze::KvFreezeCache cache(
      kvfreeze::Shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16},
      kvfreeze::Limits{.max_tokens = 64});
  auto const sequence = cache.open();
  std::array<float, 32> const q{};
  std::array<float, 16> const k{};
  std::array<float, 32> out{};
  cache.attend(sequence, 0, q, k, k, out);
  auto const report = cache.advance(sequence);

  std::printf("kvfreeze %s: %d token\n", version.c_str(), report.length);
  return version == EXPECTED_VERSION && report.length == 1 ? 0 : 1;
}
