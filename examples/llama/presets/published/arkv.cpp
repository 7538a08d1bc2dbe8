#include <kvfreeze/published_presets.hpp>

#include "../cache_adaptor.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_arkv(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::Arkv<>>(settings);
}

std::unique_ptr<AttentionCache> make_arkv_recalled(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::ArkvRecalled<>>(settings);
}

std::unique_ptr<AttentionCache> make_arkv_as_shipped(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::ArkvAsShipped<>>(settings, {}, {.shrink = 0.75F});
}

}  // namespace llama
