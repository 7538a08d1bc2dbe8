#include "../cache_adaptor.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_quest(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::Quest<>>(settings, {}, {.fraction = 0.2F});
}

}  // namespace llama
