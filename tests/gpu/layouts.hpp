#pragma once

#include <kvfreeze/layout.hpp>

namespace kvfreeze::gpu::test {

using HalfLadder = Layout<Half, 1, Grouping::kv_head, LadderRows>;
using LadderFours = Layout<Half, 4, Grouping::kv_head, LadderRows>;
using RankLayerFours = Layout<Half, 4, Grouping::layer, CompactRows<CompactLevel<5, 8>>>;
using FlatLayerPages = Layout<BFloat16, 16, Grouping::layer, CompactRows<CompactLevel<4, 4>>>;
using HalfFours = Layout<Half, 4>;
using HalfPages = Layout<Half, 16>;
using BFloatPages = Layout<BFloat16, 16>;
using BFloatLayerFours = Layout<BFloat16, 4, Grouping::layer>;
using FloatLayerPages = Layout<float, 16, Grouping::layer>;

}  // namespace kvfreeze::gpu::test
