#pragma once

#include <kvfreeze/concepts.hpp>

namespace kvfreeze {

/// No digest: frozen rows cost nothing and cannot be recalled by content.
struct NoDigest {
  static constexpr int group_rows = 0;

  static constexpr std::size_t bytes(int) noexcept { return 0; }

  static constexpr void encode(float const*, int, std::byte*) noexcept {}

  static constexpr void scan(DigestQuery const&, std::byte const*, float*,
                             std::ptrdiff_t) noexcept {}
};

static_assert(DigestPolicy<NoDigest>);

}  // namespace kvfreeze
