#include "../cache_adaptor.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_paged_eviction(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::PagedEviction<>>(settings);
}

}  // namespace llama
