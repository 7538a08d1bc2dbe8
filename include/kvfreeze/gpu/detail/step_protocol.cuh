#pragma once

#include <kvfreeze/error.hpp>
#include <kvfreeze/types.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kvfreeze::gpu::detail {

/// @brief What a cache's caller may do next: which sequences are open, which of them take the step
/// that has begun, and which layers have its rows. The host's own count of what was enqueued.
///
/// Checks come before anything is enqueued, and change nothing.
class StepProtocol {
 public:
  struct Record {
    bool open = false;
    bool failed = false;  ///< a step was enqueued in part
    std::uint32_t generation = 0;
    int length = 0;
    std::uint32_t steps = 0;  ///< enqueued
    std::uint32_t told = 0;   ///< of which the caller knows whether they rewind
  };

  StepProtocol(Shape const& shape, Limits const& limits)
      : shape_(shape),
        max_tokens_(limits.max_tokens),
        sinks_(limits.sinks),
        records_(static_cast<std::size_t>(limits.max_sequences)),
        taken_(records_.size()),
        done_(static_cast<std::size_t>(shape.layers)) {}

  /// @return a place for one sequence more
  /// @throws CapacityError
  [[nodiscard]] std::uint32_t free_place() const {
    auto const found =
        std::find_if(records_.begin(), records_.end(), [](Record const& r) { return !r.open; });
    if (found == records_.end()) {
      throw CapacityError(
          "open(): Limits::max_sequences = " + std::to_string(records_.size()) + " are open",
          records_.size() + 1, records_.size());
    }
    return static_cast<std::uint32_t>(found - records_.begin());
  }

  Sequence open(std::uint32_t place) noexcept {
    Record& record = records_[place];
    record = {.open = true, .generation = record.generation + 1};
    return {place, record.generation};
  }

  /// @throws UnknownSequence
  [[nodiscard]] Record const& record(Sequence handle) const {
    if (handle.index >= records_.size() || !records_[handle.index].open ||
        records_[handle.index].generation != handle.generation) {
      throw UnknownSequence("sequence " + name(handle) + " is not open");
    }
    return records_[handle.index];
  }

  [[nodiscard]] Record& record(Sequence handle) {
    return const_cast<Record&>(std::as_const(*this).record(handle));
  }

  /// An open sequence whose last step did not fail half way.
  /// @throws UnknownSequence, InvalidArgument
  [[nodiscard]] Record const& live(char const* call, Sequence handle) const {
    Record const& sequence = record(handle);
    if (sequence.failed) {
      throw InvalidArgument(std::string(call) + "(): a launch for sequence " + name(handle) +
                            " failed: all that can be done is close() it");
    }
    return sequence;
  }

  [[nodiscard]] Record& live(char const* call, Sequence handle) {
    return const_cast<Record&>(std::as_const(*this).live(call, handle));
  }

  /// @throws InvalidArgument, UnknownSequence, CapacityError unless all may take a token
  void check_batch(std::span<Sequence const> batch) {
    if (batch.empty() || batch.size() > records_.size()) {
      throw InvalidArgument("begin_async(): a batch of " + std::to_string(batch.size()) +
                            " sequences, expected [1, " + std::to_string(records_.size()) + "]");
    }
    std::fill(taken_.begin(), taken_.end(), false);
    for (Sequence const handle : batch) {
      Record const& sequence = live("begin_async", handle);
      if (taken_[handle.index]) {
        throw InvalidArgument("begin_async(): sequence " + name(handle) + " is in the batch twice");
      }
      taken_[handle.index] = true;
      check_room("begin_async", sequence, 1);
    }
  }

  /// @param most tokens of a chunk, 0: as many as there is room for
  /// @throws InvalidArgument, UnknownSequence, CapacityError
  void check_chunk(Sequence handle, int tokens, int most) const {
    Record const& sequence = live("begin_prefill_async", handle);
    if (tokens < 1) {
      throw InvalidArgument("begin_prefill_async(): a chunk of " + std::to_string(tokens) +
                            " tokens, expected at least 1");
    }
    check_room("begin_prefill_async", sequence, tokens);
    if (most != 0 && tokens > most) {
      throw InvalidArgument("begin_prefill_async(): a chunk of " + std::to_string(tokens) +
                            " tokens, under a byte cap at most " + std::to_string(most));
    }
  }

  /// @param granule rows that go as one and cannot come back; 1: none
  /// @throws InvalidArgument for a length outside of [0, sequence.length], or that may cut a
  ///   granule which is gone
  void check_cut(Record const& sequence, int length, int granule) const {
    if (length < 0 || length > sequence.length) {
      throw InvalidArgument("truncate_async(): length " + std::to_string(length) +
                            " is outside [0, " + std::to_string(sequence.length) + "]");
    }
    int const first = length - length % granule;
    bool const filling = sequence.length % granule != 0 && sequence.length - first < granule;
    if (length != first && length != sequence.length && first >= sinks_ && !filling) {
      throw InvalidArgument("truncate_async(): length " + std::to_string(length) +
                            " cuts the granule of " + std::to_string(granule) + " rows at " +
                            std::to_string(first) + ", which may be gone");
    }
  }

  /// @param chunk of a prompt
  void begin(std::span<Sequence const> batch, int tokens, bool chunk) {
    batch_.assign(batch.begin(), batch.end());
    begun_ = true;
    tokens_ = tokens;
    chunk_ = chunk;
    recalled_ = -1;
    std::fill(done_.begin(), done_.end(), false);
  }

  void forget_batch() noexcept { batch_.clear(); }

  /// No step goes on for a sequence that is closed.
  void leave(Sequence handle) noexcept {
    if (std::find(batch_.begin(), batch_.end(), handle) != batch_.end()) {
      batch_.clear();
    }
  }

  void check_layer(char const* call, int layer) const {
    if (layer < 0 || layer >= shape_.layers) {
      throw InvalidArgument(std::string(call) + "(): layer is " + std::to_string(layer) +
                            ", must be in [0, " + std::to_string(shape_.layers) + ")");
    }
  }

  /// @throws InvalidArgument unless a layer's rows fit the step that has begun
  void check_rows(char const* call, int layer, bool chunk, std::size_t q, std::size_t k,
                  std::size_t v) const {
    if (batch_.empty() || !begun_ || chunk != chunk_) {
      throw InvalidArgument(std::string(call) + "(): " +
                            (chunk ? "begin_prefill_async()" : "begin_async()") + " comes first");
    }
    check_layer(call, layer);
    if (done_[static_cast<std::size_t>(layer)]) {
      throw InvalidArgument(std::string(call) + "(): layer " + std::to_string(layer) +
                            " has the step's rows already");
    }
    std::size_t const rows = batch_.size() * static_cast<std::size_t>(tokens_);
    auto const check = [&](char const* array, std::size_t size, int heads) {
      if (size !=
          rows * static_cast<std::size_t>(heads) * static_cast<std::size_t>(shape_.head_dim)) {
        throw InvalidArgument(std::string(call) + "(): " + array + " has " + std::to_string(size) +
                              " elements, expected " + std::to_string(rows) + " * " +
                              std::to_string(heads) + " * " + std::to_string(shape_.head_dim));
      }
    };
    check("q", q, shape_.query_heads);
    check("k", k, shape_.kv_heads);
    check("v", v, shape_.kv_heads);
  }

  /// @throws InvalidArgument unless the step may end
  void check_end(std::size_t logits) const {
    if (batch_.empty() || !begun_) {
      throw InvalidArgument("advance_async(): no step has begun: begin_async() comes first");
    }
    if (logits % batch_.size() != 0) {
      throw InvalidArgument("advance_async(): " + std::to_string(logits) +
                            " logits for a batch of " + std::to_string(batch_.size()) +
                            " sequences");
    }
    auto const missing = std::find(done_.begin(), done_.end(), false);
    if (missing != done_.end()) {
      throw InvalidArgument("advance_async(): layer " + std::to_string(missing - done_.begin()) +
                            " has no rows of the step: every layer must have them");
    }
  }

  /// The layer of the step's last recall_async().
  /// @throws InvalidArgument if another call came since
  [[nodiscard]] int recalled(char const* call) const {
    if (batch_.empty() || recalled_ < 0) {
      throw InvalidArgument(std::string(call) + "(): recall_async() comes first");
    }
    return recalled_;
  }

  /// A layer has the step's rows.
  /// @param recalled its attention is the caller's
  void layer_done(int layer, bool recalled = false) noexcept {
    done_[static_cast<std::size_t>(layer)] = true;
    recalled_ = recalled ? layer : -1;
  }

  /// The step, or a graph that holds one, was enqueued to its end.
  void count() noexcept {
    for (Sequence const handle : batch_) {
      records_[handle.index].length += tokens_;
      records_[handle.index].steps += 1;
    }
  }

  void end() noexcept {
    begun_ = false;
    recalled_ = -1;
    count();
  }

  /// The batch is half way through a step that has no end.
  void fail() noexcept {
    for (Sequence const handle : batch_) {
      records_[handle.index].failed = true;
    }
    batch_.clear();
  }

  /// Does a step go on, as far as is known? A replay does not say when it ends.
  [[nodiscard]] bool is_begun() const noexcept { return begun_ && !batch_.empty(); }

  /// Sequences of the step, 0: no batch is begun.
  [[nodiscard]] int sequences() const noexcept { return static_cast<int>(batch_.size()); }

  /// Tokens of the step, of each sequence.
  [[nodiscard]] int tokens() const noexcept { return tokens_; }

 private:
  static std::string name(Sequence handle) {
    return "{" + std::to_string(handle.index) + ", " + std::to_string(handle.generation) + "}";
  }

  /// @throws CapacityError unless a sequence holds so many tokens more
  void check_room(char const* call, Record const& sequence, int tokens) const {
    if (tokens > max_tokens_ - sequence.length) {
      throw CapacityError(
          std::string(call) + "(): " + std::to_string(sequence.length) + " + " +
              std::to_string(tokens) +
              " tokens exceed Limits::max_tokens = " + std::to_string(max_tokens_),
          static_cast<std::size_t>(sequence.length) + static_cast<std::size_t>(tokens),
          static_cast<std::size_t>(max_tokens_));
    }
  }

  Shape shape_;
  int max_tokens_;
  int sinks_;
  std::vector<Record> records_;
  std::vector<bool> taken_;  ///< by the batch that is checked
  std::vector<bool> done_;   ///< layers that have the step's rows
  std::vector<Sequence> batch_;
  bool begun_ = false;  ///< a step, which advance_async() ends
  int tokens_ = 1;      ///< of the step that has begun, for each sequence
  bool chunk_ = false;  ///< it is a chunk of a prompt
  int recalled_ = -1;   ///< layer of the step's last recall_async(); -1: another call came since
};

}  // namespace kvfreeze::gpu::detail
