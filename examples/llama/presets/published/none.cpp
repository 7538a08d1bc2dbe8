#include "../../caches.hpp"

namespace llama {

std::span<Preset const> published_presets() { return {}; }

}  // namespace llama
