#include <kvfreeze/published_presets.hpp>

#include "../cache_adaptor.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_lag_kv(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::LagKv<>>(settings);
}

}  // namespace llama
