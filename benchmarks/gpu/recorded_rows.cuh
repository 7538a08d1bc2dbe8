#pragma once

/// @file
/// @brief Q, K and V of a real model, as `examples/run.sh record` writes them, on the device.

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/types.hpp>

#include "../../examples/llama/recording_file.hpp"
#include "harness.cuh"

#include <algorithm>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace kvfreeze::gpu::bench {

/// Q, K and V of a layer: [tokens][heads][head_dim].
struct LayerRows {
  Span<Half const> q;
  Span<Half const> k;
  Span<Half const> v;
};

/// @brief Some layers of a recording, from the first to the last at equal distances.
class RecordedRows {
 public:
  /// @throws std::invalid_argument if the last `steps` rows' queries were not recorded
  RecordedRows(llama::Recording recording, int layers, int steps)
      : recording_(std::move(recording)), shape_(recording_.shape) {
    if (recording_.queries < steps || recording_.rows <= recording_.queries) {
      throw std::invalid_argument(
          "the recording has queries of " + std::to_string(recording_.queries) + " of its " +
          std::to_string(recording_.rows) + " rows, needed are those of the last " +
          std::to_string(steps) + ", and rows before them: record --queries " +
          std::to_string(steps));
    }
    shape_.layers = std::min(layers, shape_.layers);
    for (int i = 0; i < shape_.layers; ++i) {
      layers_.push_back(shape_.layers == 1
                            ? recording_.shape.layers / 2
                            : i * (recording_.shape.layers - 1) / (shape_.layers - 1));
    }
    position_ = recording_.rows - steps;
    steps_.resize(layers_.size());
  }

  [[nodiscard]] Shape const& shape() const { return shape_; }

  /// Rows before those that are decoded.
  [[nodiscard]] int context() const { return position_; }

  /// @brief Rows of a prompt. Their queries, which were not recorded, are zero.
  LayerRows chunk(int layer, int first, int tokens, Stream const& stream) {
    return upload(chunk_, layer, first, tokens, stream);
  }

  /// @brief Brings the next row, of all layers.
  void next(Stream const& stream) {
    for (int layer = 0; layer < shape_.layers; ++layer) {
      Buffers& step = steps_[static_cast<std::size_t>(layer)];
      step.rows = upload(step, layer, position_, 1, stream);
    }
    position_ += 1;
  }

  [[nodiscard]] LayerRows row(int layer) const {
    return steps_[static_cast<std::size_t>(layer)].rows;
  }

 private:
  struct Buffers {
    DeviceArray<Half> q;
    DeviceArray<Half> k;
    DeviceArray<Half> v;
    LayerRows rows;
  };

  LayerRows upload(Buffers& to, int layer, int first, int tokens, Stream const& stream) const {
    int const recorded = layers_[static_cast<std::size_t>(layer)];
    auto const width = [&](int heads) { return static_cast<std::size_t>(heads * shape_.head_dim); };
    auto const count = static_cast<std::size_t>(tokens);
    std::vector<Half> q(count * width(shape_.query_heads));
    std::vector<Half> k(count * width(shape_.kv_heads));
    std::vector<Half> v(k.size());
    int const first_query = recording_.rows - recording_.queries;
    for (int token = 0; token < tokens; ++token) {
      int const row = first + token;
      auto const at = static_cast<std::ptrdiff_t>(token);
      if (row >= first_query) {
        std::span<float const> const query = recording_.query(row - first_query, recorded);
        std::transform(query.begin(), query.end(),
                       q.begin() + at * static_cast<std::ptrdiff_t>(query.size()),
                       [](float x) { return from_float<Half>(x); });
      }
      for (int head = 0; head < shape_.kv_heads; ++head) {
        int const lane = recorded * shape_.kv_heads + head;
        auto const begin = (at * shape_.kv_heads + head) * shape_.head_dim;
        std::ranges::copy(recording_.key(lane, row), k.begin() + begin);
        std::ranges::copy(recording_.value(lane, row), v.begin() + begin);
      }
    }
    return {copy(to.q, q, stream), copy(to.k, k, stream), copy(to.v, v, stream)};
  }

  static Span<Half const> copy(DeviceArray<Half>& to, std::vector<Half> const& from,
                               Stream const& stream) {
    if (to.size() < from.size()) {
      to = DeviceArray<Half>(from.size());
    }
    check(cudaMemcpyAsync(to.data(), from.data(), from.size() * sizeof(Half),
                          cudaMemcpyHostToDevice, stream.get()),
          "cudaMemcpyAsync");
    check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
    return to.span().first(from.size());
  }

  llama::Recording recording_;
  Shape shape_;
  std::vector<int> layers_;  ///< of the recording
  int position_ = 0;         ///< of the next row
  Buffers chunk_;
  std::vector<Buffers> steps_;
};

}  // namespace kvfreeze::gpu::bench
