#include <kvfreeze/published_presets.hpp>

#include "../cache_adaptor.hpp"
#include "calibrated.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_head_bits(CacheSettings const& settings) {
  using Cache = kvfreeze::presets::HeadBits<>;
  Cache::scheduler_type scheduler;
  MeasuredEntropies const measured = relative_entropies(settings);
  scheduler.entropies = measured.relative;
  scheduler.mean_entropy = measured.mean;
  return make_cache<Cache>(settings, {}, scheduler.conserved());
}

}  // namespace llama
