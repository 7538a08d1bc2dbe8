#pragma once

#include <kvfreeze/published_presets.hpp>

#include "../../caches.hpp"

#include <memory>

namespace llama {

// One function for each cache; `_recalled` is the same rule with a tier.

std::unique_ptr<AttentionCache> make_h2o(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_h2o_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_tova(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_tova_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_snap_kv(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_snap_kv_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_pyramid_kv(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_pyramid_kv_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_ada_kv(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_ada_kv_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_arkv(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_arkv_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_arkv_as_shipped(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_key_norm(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_key_norm_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_key_diff(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_key_diff_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_expected_attention(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_expected_attention_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_entropy_online(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_entropy_online_recalled(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_paged_eviction(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_lag_kv(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_head_bits(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_kv_freeze_never(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_kv_freeze_entropy(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_kv_freeze_both(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_asr_kf_egr_never(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_asr_kf_egr_missed(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_asr_kf_egr_both(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_quest(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_ark_vale(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_partial_recall(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_entropy_calibrated(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_entropy_oracle(CacheSettings const& settings);

}  // namespace llama
