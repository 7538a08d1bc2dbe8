#pragma once

#include "model.hpp"

#include <span>
#include <vector>

namespace llama {

/// @brief Logits of a text with ggml's own attention over 32-bit keys and values: no cache, the
/// whole text at once. What `check` measures ours against.
/// @param last tokens from the end whose logits are returned
/// @return [last][vocabulary]
std::vector<float> logits_with_ggml_attention(Model const& model, int threads,
                                              std::span<int const> tokens, int last);

}  // namespace llama
