#pragma once

/// @file
/// @brief What the cache is measured against: paged decode attention of ours over all rows, exact.

#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/gpu/workspace.cuh>
#include <kvfreeze/types.hpp>

#include "harness.cuh"
#include "random_words.cuh"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace kvfreeze::gpu::bench {

/// Attention over all rows of all layers, paged. Layers share rows where together they would be
/// more than `most_bytes`, several times any L2.
/// @tparam HeadDim of the shape
template <int HeadDim>
class DenseRows {
  using Lanes = AttentionLanes<Half>;
  static constexpr int page_rows = 16;

 public:
  DenseRows(Shape const& shape, int sequences, int context, std::size_t most_bytes)
      : lanes_(static_cast<std::size_t>(sequences) * static_cast<std::size_t>(shape.kv_heads)),
        rows_(static_cast<std::size_t>(context)) {
    std::size_t const layer_bytes =
        lanes_ * rows_ * 2 * static_cast<std::size_t>(shape.head_dim) * sizeof(Half);
    bytes_ = layer_bytes * static_cast<std::size_t>(shape.layers);
    std::size_t const copies = std::clamp<std::size_t>((most_bytes + layer_bytes - 1) / layer_bytes,
                                                       1, static_cast<std::size_t>(shape.layers));
    words_ = random_words(copies * layer_bytes / sizeof(std::uint32_t), 1);
    std::vector<std::uint32_t> numbers(lanes_ * rows_ / page_rows);
    std::iota(numbers.begin(), numbers.end(), 0U);
    std::mt19937 random(2);
    std::shuffle(numbers.begin(), numbers.end(), random);
    pages_ = upload(numbers);
    for (std::size_t copy = 0; copy < copies; ++copy) {
      descriptors_.push_back(
          describe(shape, copy * layer_bytes / sizeof(Half), layer_bytes / sizeof(Half)));
    }
    shape_.group = shape.query_heads / shape.kv_heads;
    shape_.head_dim = shape.head_dim;
    shape_.octaves = 0.1275F;  // 1 / sqrt(128) / log(2)
    shape_.longest = rows_;
    counts_ = upload(std::vector<std::uint32_t>(lanes_, static_cast<std::uint32_t>(rows_)));
    std::size_t const queries =
        lanes_ * static_cast<std::size_t>(shape_.group) * static_cast<std::size_t>(shape.head_dim);
    q_ = upload(std::vector<float>(queries, 0.25F));
    out_ = DeviceArray<float>(queries);
    tickets_ = upload(std::vector<std::uint32_t>(decode_attention_tickets(shape_, lanes_)));
    workspace_ = Workspace(decode_attention_workspace_bytes<Lanes, HeadDim>(shape_, lanes_));
  }

  void attend_async(int layer, Stream const& stream) const {
    auto const& descriptors = descriptors_[static_cast<std::size_t>(layer) % descriptors_.size()];
    decode_attention_async<HeadDim>(Lanes{descriptors.span(), counts_.span()}, shape_, q_.span(),
                                    out_.span(), Span<float>{}, tickets_.span(), workspace_.span(),
                                    ::cuda::stream_ref(stream.get()));
  }

  /// K and V that a step reads.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] DeviceArray<AttentionLane<Half>> describe(Shape const& shape, std::size_t first,
                                                          std::size_t elements) const {
    KvPages<Half> pool;
    pool.memory = Span<Half const>(reinterpret_cast<Half const*>(words_.data()) + first, elements);
    pool.page_tokens = page_rows;
    pool.head_dim = shape.head_dim;
    check_pages(pool);
    std::vector<AttentionLane<Half>> all(lanes_);
    for (std::size_t lane = 0; lane < lanes_; ++lane) {
      all[lane].rows = pool.rows(0, nullptr, pages_.data() + lane * rows_ / page_rows);
    }
    return upload(all);
  }

  std::size_t lanes_;
  std::size_t rows_;
  std::size_t bytes_ = 0;
  DecodeShape shape_;
  DeviceArray<std::uint32_t> words_;
  DeviceArray<std::uint32_t> pages_;
  std::vector<DeviceArray<AttentionLane<Half>>> descriptors_;
  DeviceArray<std::uint32_t> counts_;
  DeviceArray<float> q_;
  DeviceArray<float> out_;
  DeviceArray<std::uint32_t> tickets_;
  Workspace workspace_;
};

}  // namespace kvfreeze::gpu::bench
