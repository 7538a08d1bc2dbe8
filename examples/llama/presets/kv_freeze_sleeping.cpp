#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_kv_freeze_sleeping(CacheSettings const& settings) {
  using namespace kvfreeze;
  using Cache = KvFreezeCache<Layout<Half, 1, Grouping::kv_head, LadderRows>,
                              InstantMassScorer<NestedKeyCodes<1, 5>>, LadderScheduler<true>,
                              HostTier, MissedMassTrigger>;
  if (settings.tier != TierChoice::host) {
    throw UserError("--tier in-place: rows that never move have no compact form");
  }
  return make_cache<Cache>(settings);
}

}  // namespace llama
