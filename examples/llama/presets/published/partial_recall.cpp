#include "../cache_adaptor.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_partial_recall(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::PartialRecall<>>(settings, {}, {.fraction = 1.0F});
}

}  // namespace llama
