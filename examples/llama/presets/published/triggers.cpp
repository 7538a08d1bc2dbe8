// The same caches with other triggers, to see what each level of recovery is worth.

#include <kvfreeze/kvfreeze.hpp>
#include <kvfreeze/trigger/any_of.hpp>

#include "../cache_adaptor.hpp"
#include "published.hpp"

namespace llama {

namespace {

using kvfreeze::AnyOf;
using kvfreeze::EntropyLadderTrigger;
using kvfreeze::MissedMassTrigger;
using kvfreeze::NeverTrigger;

template <class Trigger>
using Ladder = kvfreeze::KvFreezeCache<
    kvfreeze::Layout<kvfreeze::Half, 1, kvfreeze::Grouping::kv_head, kvfreeze::LadderRows>,
    kvfreeze::InstantMassScorer<kvfreeze::NestedKeyCodes<1, 5>>, kvfreeze::LadderScheduler<>,
    kvfreeze::HostTier, Trigger>;

template <class Trigger>
using Timed =
    kvfreeze::KvFreezeCache<kvfreeze::Layout<>, kvfreeze::MeanAbsDotScorer<kvfreeze::KeyCodes<4>>,
                            kvfreeze::SublinearScheduler<kvfreeze::Thaw::lazy>, kvfreeze::HostTier,
                            Trigger>;

}  // namespace

std::unique_ptr<AttentionCache> make_kv_freeze_never(CacheSettings const& settings) {
  return make_cache<Ladder<NeverTrigger>>(settings);
}

std::unique_ptr<AttentionCache> make_kv_freeze_entropy(CacheSettings const& settings) {
  return make_cache<Ladder<EntropyLadderTrigger>>(settings);
}

std::unique_ptr<AttentionCache> make_kv_freeze_both(CacheSettings const& settings) {
  return make_cache<Ladder<AnyOf<MissedMassTrigger, EntropyLadderTrigger>>>(settings);
}

std::unique_ptr<AttentionCache> make_asr_kf_egr_never(CacheSettings const& settings) {
  return make_cache<Timed<NeverTrigger>>(settings);
}

std::unique_ptr<AttentionCache> make_asr_kf_egr_missed(CacheSettings const& settings) {
  return make_cache<Timed<MissedMassTrigger>>(settings);
}

std::unique_ptr<AttentionCache> make_asr_kf_egr_both(CacheSettings const& settings) {
  return make_cache<Timed<AnyOf<MissedMassTrigger, EntropyLadderTrigger>>>(settings);
}

}  // namespace llama
