#pragma once

#include "../caches.hpp"

#include <memory>

namespace llama {

// One function for each file of this folder, so that changing a preset compiles one cache.

std::unique_ptr<AttentionCache> make_kv_freeze(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_exact_recall(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_uniform_quantised_8(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_uniform_quantised_4(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_uniform_quantised_3(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_kv_freeze_sleeping(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_uniform_quantised_2(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_asr_kf_egr(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_asr_kf_egr_eager(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_streaming_llm(CacheSettings const& settings);
std::unique_ptr<AttentionCache> make_plain(CacheSettings const& settings);

/// Plain with rows of 32 bits. Not on the list of presets: `check` needs it.
std::unique_ptr<AttentionCache> make_plain_float(CacheSettings const& settings);

}  // namespace llama
