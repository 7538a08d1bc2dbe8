#include "../cache_adaptor.hpp"
#include "calibrated.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_entropy_oracle(CacheSettings const& settings) {
  using Cache = kvfreeze::presets::EntropyOracle<>;
  Cache::scheduler_type scheduler;
  scheduler.shares = entropy_shares(settings);
  scheduler.recalled = 1.0F;  // nothing is chosen by the past
  return make_cache<Cache>(settings, {}, scheduler);
}

}  // namespace llama
