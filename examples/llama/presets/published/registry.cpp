#include "published.hpp"

#include <array>

namespace llama {

std::span<Preset const> published_presets() {
  static std::array const all{
      Preset{"H2o", false, false,
             "mass summed over all queries; the rest is dropped (arXiv 2306.14048)", &make_h2o},
      Preset{"Tova", false, false,
             "the last query's mass, by layer; the rest is dropped (arXiv 2401.06104)", &make_tova},
      Preset{"SnapKv", false, false,
             "mass of the last 32 queries, pooled; the rest is dropped (arXiv 2404.14469)",
             &make_snap_kv},
      Preset{"PyramidKv", false, false, "SnapKv with more for lower layers (arXiv 2406.02069)",
             &make_pyramid_kv},
      Preset{"AdaKv", false, false, "SnapKv whose heads compete for their layer's budget",
             &make_ada_kv},
      Preset{"KeyNorm", false, false, "keys of small norm stay (arXiv 2406.11430)", &make_key_norm},
      Preset{"KeyDiff", false, false, "keys unlike the others stay (arXiv 2504.15364)",
             &make_key_diff},
      Preset{"ExpectedAttention", false, false,
             "rows that a normal distribution of queries would see (kvpress)",
             &make_expected_attention},
      Preset{"EntropyOnline", false, false,
             "budgets by the entropy of each head, measured while running", &make_entropy_online},
      Preset{"H2oRecalled", true, true, "H2o with a tier: half of its budget by recall",
             &make_h2o_recalled},
      Preset{"TovaRecalled", true, true, "Tova with a tier: half of its budget by recall",
             &make_tova_recalled},
      Preset{"SnapKvRecalled", true, true, "SnapKv with a tier: half of its budget by recall",
             &make_snap_kv_recalled},
      Preset{"PyramidKvRecalled", true, true, "PyramidKv with a tier: half of its budget by recall",
             &make_pyramid_kv_recalled},
      Preset{"AdaKvRecalled", true, true, "AdaKv with a tier: half of its budget by recall",
             &make_ada_kv_recalled},
      Preset{"KeyNormRecalled", true, true, "KeyNorm with a tier: half of its budget by recall",
             &make_key_norm_recalled},
      Preset{"KeyDiffRecalled", true, true, "KeyDiff with a tier: half of its budget by recall",
             &make_key_diff_recalled},
      Preset{"ExpectedAttentionRecalled", true, true,
             "ExpectedAttention with a tier: half of its budget by recall",
             &make_expected_attention_recalled},
      Preset{"EntropyOnlineRecalled", true, true,
             "EntropyOnline with a tier: half of its budget by recall",
             &make_entropy_online_recalled},
      Preset{"EntropyCalibrated", false, false, "the same from a calibration (calibration=FILE)",
             &make_entropy_calibrated},
      Preset{"EntropyOracle", true, true,
             "the same as its paper measured it: an oracle (fraction=)", &make_entropy_oracle},
      Preset{"PagedEviction", false, false, "whole pages by |v| / |k| (arXiv 2509.04377)",
             &make_paged_eviction},
      Preset{"Quest", true, true,
             "pages by the bound of their box; nothing leaves memory (fraction=)", &make_quest},
      Preset{"ArkVale", true, true, "pages by their cuboid come back before attention",
             &make_ark_vale},
      Preset{"PartialRecall", true, true,
             "rows by a fifth of their keys' channels (after InfiniGen)", &make_partial_recall},
  };
  return all;
}

}  // namespace llama
