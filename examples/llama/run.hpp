#pragma once

#include "caches.hpp"
#include "decoder.hpp"
#include "statistics.hpp"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace llama {

/// A text in a cache, to go on from again and again. @see Run::snapshot
struct Snapshot {
  std::string cache;
  std::vector<int> tokens;
  std::vector<float> logits;
};

/// @brief One text on its way through one cache, and what was measured on the way.
class Run {
 public:
  static constexpr int default_prefill_chunk = 256;

  /// @param prefill_chunk tokens of a prefill step
  Run(Decoder& decoder, std::unique_ptr<AttentionCache> cache,
      int prefill_chunk = default_prefill_chunk);

  /// @brief Appends tokens in chunks. Triggers see no logits here.
  void prefill(std::span<int const> tokens) { feed_chunks(tokens, StepKind::prefill); }

  /// @brief Appends one token.
  ///
  /// If the report asks for a rewind, the cache is at that length already; the caller calls
  /// `rewind` and goes on from there.
  kvfreeze::StepReport step(int token);

  /// @brief Appends one token of a given text. A rewind is answered with the same tokens again.
  kvfreeze::StepReport step_forced(int token);

  /// @brief Forgets the tokens from `length` on and makes the logits of the last one left anew.
  void rewind(int length);

  /// @brief Takes the cache and the text back to `length`, between two measurements.
  void truncate(int length);

  /// @brief Forgets the text; the measurements stay.
  void restart();

  /// @brief Makes this the text, prefilled. What it has in common with the text so far is kept, in
  /// whole prefill chunks, so that nothing differs from a text read anew.
  /// @param keep_common false for caches that cannot go back: they begin again
  void read(std::span<int const> text, bool keep_common);

  /// @brief The text as it is now; nothing where the cache cannot be saved.
  [[nodiscard]] std::optional<Snapshot> snapshot();

  /// @brief Goes back to a snapshot of a run through the same composition. Measurements stay.
  /// @pre its cache could be saved
  void restore(Snapshot const& snapshot);

  /// @brief From now on no logits reach the triggers, so that none can ask for a rewind.
  void quieten_triggers() { triggers_see_logits_ = false; }

  [[nodiscard]] int prefill_chunk() const { return prefill_chunk_; }

  /// @brief For the token after the last one.
  [[nodiscard]] std::span<float const> logits() const { return logits_; }

  [[nodiscard]] std::vector<int> const& tokens() const { return tokens_; }

  [[nodiscard]] std::vector<Step> const& steps() const { return steps_; }

  [[nodiscard]] AttentionCache& cache() { return *cache_; }

 private:
  void cut(int length);
  void feed_chunks(std::span<int const> tokens, StepKind kind);
  kvfreeze::StepReport feed(std::span<int const> tokens, StepKind kind);

  Decoder* decoder_;
  std::unique_ptr<AttentionCache> cache_;
  std::vector<int> tokens_;
  std::vector<float> logits_;
  std::vector<Step> steps_;
  int prefill_chunk_;
  int accounted_ = 0;  // length of the text that the steps so far add up to
  bool triggers_see_logits_ = true;
};

}  // namespace llama
