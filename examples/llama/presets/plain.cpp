#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_plain(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::Plain<>>(settings);  // never freezes a row
}

}  // namespace llama
