#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_plain_float(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::Plain<float>>(settings);
}

}  // namespace llama
