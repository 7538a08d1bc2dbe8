#include "../cache_adaptor.hpp"
#include "calibrated.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_entropy_calibrated(CacheSettings const& settings) {
  using Cache = kvfreeze::presets::EntropyCalibrated<>;
  Cache::scheduler_type scheduler;
  scheduler.shares = entropy_shares(settings);
  return make_cache<Cache>(settings, {}, scheduler);
}

}  // namespace llama
