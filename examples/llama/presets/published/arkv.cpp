#include <kvfreeze/published_presets.hpp>

#include "../cache_adaptor.hpp"
#include "calibrated.hpp"
#include "published.hpp"

namespace llama {

namespace {

using Shares = kvfreeze::TableShares<>;

/// The layer with the largest score holds all that it keeps in full, unless no scores are given.
template <class Cache>
std::unique_ptr<AttentionCache> make_ranked(CacheSettings const& settings) {
  typename Cache::scheduler_type scheduler;
  scheduler.shares = oq_shares(settings);
  scheduler.exact = scheduler.shares.lanes > 0 ? 1.0F : scheduler.exact;
  return make_cache<Cache>(settings, {}, scheduler);
}

}  // namespace

std::unique_ptr<AttentionCache> make_arkv(CacheSettings const& settings) {
  return make_ranked<kvfreeze::presets::Arkv<kvfreeze::Half, kvfreeze::HostTier, Shares>>(settings);
}

std::unique_ptr<AttentionCache> make_arkv_recalled(CacheSettings const& settings) {
  return make_ranked<kvfreeze::presets::ArkvRecalled<kvfreeze::Half, kvfreeze::HostTier, Shares>>(
      settings);
}

std::unique_ptr<AttentionCache> make_arkv_as_shipped(CacheSettings const& settings) {
  using Cache = kvfreeze::presets::ArkvAsShipped<kvfreeze::Half, Shares>;
  Cache::scheduler_type scheduler;
  scheduler.shares = oq_shares(settings);
  scheduler.shrink = 0.75F;
  return make_cache<Cache>(settings, {}, scheduler);
}

}  // namespace llama
