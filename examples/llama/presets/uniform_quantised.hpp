#pragma once

#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

/// Exact rows come back from the host's memory only; one file for each number of bits, since each
/// takes long to compile.
template <int Bits>
std::unique_ptr<AttentionCache> make_uniform_quantised_of(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::UniformQuantised<Bits>>(settings);
}

}  // namespace llama
