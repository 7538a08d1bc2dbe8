#pragma once

#include <cstdint>

namespace kvfreeze {

/// What the end of a sleep does.
enum class Thaw : std::uint8_t {
  eager,  ///< the granule's bytes come back, whatever it is worth (the published semantics)
  lazy,   ///< the granule is due: its digest is asked, and bytes move only if it says so
};

}  // namespace kvfreeze
