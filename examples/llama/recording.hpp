#pragma once

#include "caches.hpp"
#include "recording_file.hpp"

#include <memory>
#include <span>

namespace llama {

/// @brief A plain cache that puts down everything that it is given.
class RecordingCache final : public AttentionCache {
 public:
  /// @param inner does the attention
  /// @param rows to record from the first one on; later ones are an error
  /// @param queries of the last rows to record
  /// @param vocabulary logits to record of each of these rows: those that a step of one token
  /// hands over; 0: none
  RecordingCache(std::unique_ptr<AttentionCache> inner, kvfreeze::Shape const& shape, int rows,
                 int queries, int vocabulary);

  void attend(int layer, std::span<float const> q, std::span<float const> k,
              std::span<float const> v, std::span<float> out, kvfreeze::Part part) override;

  kvfreeze::StepReport advance(std::span<float const> logits) override;

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
