#include <kvfreeze/published_presets.hpp>

#include "../cache_adaptor.hpp"
#include "calibrated.hpp"
#include "published.hpp"

namespace llama {

namespace {

/// With a layer score: that of a text, or of each prompt.
bool is_scored(CacheSettings const& settings) { return !settings.calibration.empty(); }

template <class Cache>
std::unique_ptr<AttentionCache> make_scored(CacheSettings const& settings,
                                            typename Cache::scheduler_type const& scheduler) {
  std::vector<float> const shares = oq_shares(settings);
  auto cache = make_cache<Cache>(settings, {}, scheduler);
  if (!shares.empty()) {
    cache->set_shares(shares);
  }
  return cache;
}

/// The layer with the largest score holds all that it keeps in full, unless there are no scores.
template <class Cache>
std::unique_ptr<AttentionCache> make_ranked(CacheSettings const& settings) {
  typename Cache::scheduler_type scheduler;
  scheduler.exact = is_scored(settings) ? 1.0F : scheduler.exact;
  return make_scored<Cache>(settings, scheduler);
}

}  // namespace

std::unique_ptr<AttentionCache> make_arkv(CacheSettings const& settings) {
  return make_ranked<kvfreeze::presets::Arkv<>>(settings);
}

std::unique_ptr<AttentionCache> make_arkv_recalled(CacheSettings const& settings) {
  return make_ranked<kvfreeze::presets::ArkvRecalled<>>(settings);
}

std::unique_ptr<AttentionCache> make_arkv_as_shipped(CacheSettings const& settings) {
  using Cache = kvfreeze::presets::ArkvAsShipped<>;
  Cache::scheduler_type scheduler;
  scheduler.shrink = 0.75F;
  return make_scored<Cache>(settings, scheduler);
}

}  // namespace llama
