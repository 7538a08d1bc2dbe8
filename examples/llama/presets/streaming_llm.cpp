#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_streaming_llm(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::StreamingLlm<>>(settings);  // has nothing to keep in a tier
}

}  // namespace llama
