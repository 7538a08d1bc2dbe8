#pragma once

#include "caches.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace llama {

/// @brief What a model gave its cache: keys and values of every row, queries of the last ones.
///
/// The file, little-endian, without gaps:
///   8 bytes   "KVFREC01"
///   7 x i32   layers, kv_heads, query_heads, head_dim, rows, queries, 0
///   u16       keys, rotated, IEEE half: [layers][kv_heads][rows][head_dim]
///   u16       values, IEEE half:        [layers][kv_heads][rows][head_dim]
///   f32       queries, rotated, of the last `queries` rows:
///   [queries][layers][query_heads][head_dim]
struct Recording {
  kvfreeze::Shape shape;
  int rows = 0;
  int queries = 0;
  std::vector<std::uint16_t> keys;
  std::vector<std::uint16_t> values;
  std::vector<float> query_values;
};

/// @throws UserError if the file cannot be written
void write_recording(Recording const& recording, std::string const& path);

/// @brief A plain cache that puts down everything that it is given.
class RecordingCache final : public AttentionCache {
 public:
  /// @param inner does the attention
  /// @param rows to record from the first one on; later ones are an error
  /// @param queries of the last rows to record
  RecordingCache(std::unique_ptr<AttentionCache> inner, kvfreeze::Shape shape, int rows,
                 int queries);

  void attend(int layer, std::span<float const> q, std::span<float const> k,
              std::span<float const> v, std::span<float> out, kvfreeze::Part part) override;

  kvfreeze::StepReport advance(std::span<float const> logits) override {
    return inner_->advance(logits);
  }

  void truncate(int length) override { inner_->truncate(length); }

  void thaw() override { inner_->thaw(); }

  void restart() override { inner_->restart(); }

  [[nodiscard]] int length() const override { return inner_->length(); }

  [[nodiscard]] int lanes_per_layer() const override { return inner_->lanes_per_layer(); }

  void fidelities(int layer, int lane, std::span<kvfreeze::Fidelity> out) const override {
    inner_->fidelities(layer, lane, out);
  }

  [[nodiscard]] Recording const& recording() const { return recording_; }

 private:
  std::unique_ptr<AttentionCache> inner_;
  Recording recording_;
};

}  // namespace llama
