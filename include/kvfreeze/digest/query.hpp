#pragma once

namespace kvfreeze {

/// @brief The current queries of one KV head, ready for digests.
///
/// `values[h * dim + d]` = q * scale * log2(e): a dot product with a key is a logit in octaves, so
/// that a row's mass is a power of two.
struct DigestQuery {
  float const* values = nullptr;
  int heads = 0;  ///< query heads that share the KV head
  int dim = 0;    ///< head_dim
};

}  // namespace kvfreeze
