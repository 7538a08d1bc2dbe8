#pragma once

#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/host/kernels/nested_queries.hpp>
#include <kvfreeze/host/virtual_memory.hpp>
#include <kvfreeze/tier/request.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>

namespace kvfreeze::host {

inline constexpr int prefill_rows = 64;     ///< rows of a tile, as in the decode kernel
inline constexpr int prefill_queries = 64;  ///< queries that share a tile
inline constexpr int transfer_batch = 64;   ///< granules of one request to the tier
inline constexpr std::size_t most_sections = most_levels + 1;

/// @brief Work space of one part, reserved once; pages are committed as sequences grow.
///
/// Arrays that grow with the context start on pages of their own, so that what is committed follows
/// from the longest lane: `bytes(rows)`. What only chunks of several tokens need is committed by
/// the first of them and given back after the first step of a single one.
class Scratch {
 public:
  Scratch() = default;

  /// @param group_rows keys that a digest encodes together
  /// @param sections runs of rows beside the digests' whose logits are known at the same time; a
  /// row is in one of them, so that all together are no longer than the lane
  /// @param fold_units room for the queries with every group's cells folded in: units of a group,
  /// or 0
  explicit Scratch(Geometry const& g, int group_rows = 64, int sections = 0, int fold_units = 0)
      : sections_(static_cast<std::size_t>(sections)), fold_units_(fold_units) {
    auto const queries = static_cast<std::size_t>(g.lane_queries);
    auto const dim = static_cast<std::size_t>(g.shape.head_dim);
    auto const group = static_cast<std::size_t>(g.group);
    std::size_t at = 0;
    auto const take = [&at](std::size_t bytes) {
      std::size_t const offset = at;
      at += round_up(bytes, 64);
      return offset;
    };
    query_ = take(queries * dim * sizeof(float));
    out_ = take(queries * dim * sizeof(float));
    max_ = take(queries * sizeof(float));
    sum_ = take(queries * sizeof(float));
    highest_ = take(queries * sizeof(float));
    absent_ = take(queries * sizeof(float));
    // Keys are encoded while nothing is on its way.
    loaded_ = take(std::max(static_cast<std::size_t>(transfer_batch) * g.granule_bytes(),
                            static_cast<std::size_t>(group_rows) * dim * sizeof(float)));
    requests_ = take(transfer_batch * sizeof(StoreRequest));
    fixed_ = round_up(at, page_bytes);
    at = fixed_;
    prefill_query_ = take(prefill_queries * group * dim * sizeof(float));
    prefill_out_ = take(prefill_queries * group * dim * sizeof(float));
    prefill_max_ = take(prefill_queries * group * sizeof(float));
    prefill_sum_ = take(prefill_queries * group * sizeof(float));
    tile_k_ = take(static_cast<std::size_t>(prefill_rows) * dim * sizeof(float));
    tile_v_ = take(static_cast<std::size_t>(prefill_rows) * dim * sizeof(float));
    tile_positions_ = take(prefill_rows * sizeof(std::int32_t));
    words_offset_ = round_up(at, page_bytes);
    auto const rows = static_cast<std::size_t>(g.max_tokens_rounded());
    region_ = sections > 0 ? section_bytes(static_cast<int>(rows))
                           : round_up(rows * sizeof(float), page_bytes);
    byte_region_ = round_up(rows, page_bytes);
    words_ = queries + 4;  // logits of each head; masses, scores, lists of granules and of slots
    section_words_ = queries + 1;
    bytes_offset_ = words_offset_ + words_ * region_;
    std::size_t const sections_at = bytes_offset_ + byte_arrays * byte_region_;
    std::size_t const folds_at = sections_at + (sections > 0 ? section_words_ * region_ : 0);
    sections_offset_ = sections_at;
    folds_offset_ = folds_at;
    if (fold_units > 0) {
      weight_bytes_ =
          queries * static_cast<std::size_t>(NestedQueries::line(g.shape.head_dim, fold_units));
      scale_bytes_ = queries * sizeof(FoldScale);
      weights_region_ = fold_bytes(static_cast<int>(rows), weight_bytes_);
    }
    memory_ = VirtualMemory::reserve(folds_offset_ + weights_region_ +
                                     fold_bytes(static_cast<int>(rows), scale_bytes_));
  }

  [[nodiscard]] float* query() const noexcept { return at<float>(query_); }  ///< octaves

  [[nodiscard]] float* out() const noexcept { return at<float>(out_); }

  [[nodiscard]] float* max() const noexcept { return at<float>(max_); }

  [[nodiscard]] float* sum() const noexcept { return at<float>(sum_); }

  [[nodiscard]] float* highest() const noexcept { return at<float>(highest_); }

  [[nodiscard]] float* absent() const noexcept { return at<float>(absent_); }

  [[nodiscard]] float* prefill_query() const noexcept { return at<float>(prefill_query_); }

  [[nodiscard]] float* prefill_out() const noexcept { return at<float>(prefill_out_); }

  [[nodiscard]] float* prefill_max() const noexcept { return at<float>(prefill_max_); }

  [[nodiscard]] float* prefill_sum() const noexcept { return at<float>(prefill_sum_); }

  [[nodiscard]] float* tile_k() const noexcept { return at<float>(tile_k_); }

  [[nodiscard]] float* tile_v() const noexcept { return at<float>(tile_v_); }

  [[nodiscard]] std::int32_t* tile_positions() const noexcept {
    return at<std::int32_t>(tile_positions_);
  }

  /// Granules on their way from or to the tier, or between levels.
  [[nodiscard]] std::byte* loaded() const noexcept { return at<std::byte>(loaded_); }

  /// The same memory, for the keys of a group.
  [[nodiscard]] float* group_keys() const noexcept { return at<float>(loaded_); }

  [[nodiscard]] StoreRequest* stores() const noexcept { return at<StoreRequest>(requests_); }

  [[nodiscard]] LoadRequest* loads() const noexcept { return at<LoadRequest>(requests_); }

  /// Logits in octaves, `logits()[head * stride() + row]`.
  [[nodiscard]] float* logits() const noexcept { return words<float>(0); }

  [[nodiscard]] std::ptrdiff_t stride() const noexcept {
    return static_cast<std::ptrdiff_t>(region_ / sizeof(float));
  }

  [[nodiscard]] std::uint32_t* masses() const noexcept { return words<std::uint32_t>(words_ - 4); }

  [[nodiscard]] std::uint32_t* scores() const noexcept { return words<std::uint32_t>(words_ - 3); }

  /// Logits of section `section`: `[head * stride() + i]`, octaves.
  [[nodiscard]] float* section_logits(std::size_t section) const noexcept {
    return at<float>(sections_offset_) + section_begin_[section];
  }

  [[nodiscard]] std::uint32_t* section_masses(std::size_t section) const noexcept {
    return at<std::uint32_t>(sections_offset_) + section_begin_[section] +
           static_cast<std::ptrdiff_t>(section_words_ - 1) * stride();
  }

  /// The queries with each group's cells folded in; entry group * heads_per_lane + KV head.
  [[nodiscard]] NestedQueries folded(Geometry const& g) const noexcept {
    std::byte* const base = memory_.data() + folds_offset_;
    return {reinterpret_cast<std::int8_t*>(base),
            reinterpret_cast<FoldScale*>(base + weights_region_), g.group, g.shape.head_dim,
            fold_units_};
  }

  /// The same memory, for scores that are floats.
  [[nodiscard]] float* float_scores() const noexcept { return words<float>(words_ - 3); }

  [[nodiscard]] std::uint32_t* list() const noexcept { return words<std::uint32_t>(words_ - 2); }

  [[nodiscard]] std::uint32_t* slots() const noexcept { return words<std::uint32_t>(words_ - 1); }

  // Bytes of granules.
  [[nodiscard]] std::uint8_t* states() const noexcept { return bytes_at(0); }

  [[nodiscard]] std::uint8_t* candidates() const noexcept { return bytes_at(1); }

  [[nodiscard]] std::uint8_t* wanted() const noexcept { return bytes_at(2); }

  [[nodiscard]] std::uint8_t* flags() const noexcept { return bytes_at(3); }

  /// Commits what a lane of `rows` rows may use; growing only.
  void commit(int rows) noexcept {
    if (!touched_) {
      for (std::size_t i = 0; i < fixed_; i += page_bytes) {
        memory_.data()[i] = std::byte{0};
      }
      touched_ = true;
    }
    grow(words_offset_, words_, region_, words_committed_, grown(rows, sizeof(float)));
    grow(bytes_offset_, byte_arrays, byte_region_, bytes_committed_, grown(rows, 1));
    grow(folds_offset_, 1, 0, weights_committed_, fold_bytes(rows, weight_bytes_));
    grow(folds_offset_ + weights_region_, 1, 0, scales_committed_, fold_bytes(rows, scale_bytes_));
  }

  /// Commits what chunks of several tokens use beside that.
  void commit_prefill() noexcept { grow(fixed_, 1, 0, prefill_committed_, words_offset_ - fixed_); }

  /// Gives it back, and what sections of lanes that were all exact took.
  void release_prefill() noexcept {
    if (prefill_committed_ == 0) {
      return;
    }
    memory_.release(fixed_, prefill_committed_);
    prefill_committed_ = 0;
    for (std::size_t k = 0; k < section_words_ && sections_committed_ > 0; ++k) {
      memory_.release(sections_offset_ + k * region_, sections_committed_);
    }
    sections_committed_ = 0;
  }

  /// @brief Places the sections one behind the other; what they held is lost. Commits what they
  /// need; growing only.
  /// @param rows of each section
  void place_sections(std::array<int, most_sections> const& rows) noexcept {
    std::ptrdiff_t begin = 0;
    for (std::size_t i = 0; i < sections_; ++i) {
      section_begin_[i] = begin;
      begin += (rows[i] + section_unit - 1) / section_unit * section_unit;
    }
    grow(sections_offset_, section_words_, region_, sections_committed_,
         round_up(static_cast<std::size_t>(begin) * sizeof(float), page_bytes));
  }

  /// What went wrong on the fast clock, for the next advance().
  std::exception_ptr failure;

  /// The region behind it, for tests that ask the system what is committed.
  [[nodiscard]] VirtualMemory const& memory() const noexcept { return memory_; }

  /// What is committed at this moment.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return touched_ ? fixed_ + prefill_committed_ + words_ * words_committed_ +
                          byte_arrays * bytes_committed_ + section_words_ * sections_committed_ +
                          weights_committed_ + scales_committed_
                    : 0;
  }

  /// The most that is ever committed for lanes of `rows` rows.
  [[nodiscard]] std::size_t bytes(int rows) const noexcept {
    return words_offset_ + words_ * std::max(words_committed_, grown(rows, sizeof(float))) +
           byte_arrays * std::max(bytes_committed_, grown(rows, 1)) +
           (sections_ > 0 ? section_words_ * std::max(sections_committed_, section_bytes(rows))
                          : 0) +
           std::max(weights_committed_, fold_bytes(rows, weight_bytes_)) +
           std::max(scales_committed_, fold_bytes(rows, scale_bytes_));
  }

 private:
  static constexpr std::size_t byte_arrays = 4;
  static constexpr int section_unit = 16;  ///< rows to which sections are rounded

  /// Of one array, for all sections of a lane.
  static std::size_t section_bytes(int rows) noexcept {
    return grown(rows + block_rows + static_cast<int>(most_sections) * section_unit, sizeof(float));
  }

  static std::size_t grown(int rows, std::size_t each) noexcept {
    return round_up(static_cast<std::size_t>(std::max(rows, 1)) * each, page_bytes);
  }

  static std::size_t fold_bytes(int rows, std::size_t each) noexcept {
    return round_up(static_cast<std::size_t>(ceil_div(rows, 64)) * each, page_bytes);
  }

  void grow(std::size_t base, std::size_t arrays, std::size_t region, std::size_t& committed,
            std::size_t wanted) noexcept {
    for (std::size_t offset = committed; offset < wanted; offset += page_bytes) {
      for (std::size_t k = 0; k < arrays; ++k) {
        memory_.data()[base + k * region + offset] = std::byte{0};
      }
    }
    committed = std::max(committed, wanted);
  }

  template <class T>
  [[nodiscard]] T* at(std::size_t offset) const noexcept {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }

  template <class T>
  [[nodiscard]] T* words(std::size_t index) const noexcept {
    return reinterpret_cast<T*>(memory_.data() + words_offset_ + index * region_);
  }

  [[nodiscard]] std::uint8_t* bytes_at(std::size_t index) const noexcept {
    return reinterpret_cast<std::uint8_t*>(memory_.data() + bytes_offset_ + index * byte_region_);
  }

  VirtualMemory memory_;
  std::size_t query_ = 0, out_ = 0, max_ = 0, sum_ = 0, highest_ = 0, absent_ = 0;
  std::size_t prefill_query_ = 0, prefill_out_ = 0, prefill_max_ = 0, prefill_sum_ = 0;
  std::size_t tile_k_ = 0, tile_v_ = 0, tile_positions_ = 0;
  std::size_t loaded_ = 0, requests_ = 0;
  std::size_t fixed_ = 0, words_offset_ = 0, bytes_offset_ = 0;
  std::size_t prefill_committed_ = 0;
  std::size_t region_ = 0;
  std::size_t byte_region_ = 0;
  std::size_t words_ = 0;
  std::size_t sections_ = 0, section_words_ = 0, sections_offset_ = 0, sections_committed_ = 0;
  int fold_units_ = 0;
  std::array<std::ptrdiff_t, most_sections> section_begin_{};
  std::size_t weight_bytes_ = 0, scale_bytes_ = 0;  // of one group's folded queries
  std::size_t folds_offset_ = 0, weights_region_ = 0;
  std::size_t weights_committed_ = 0, scales_committed_ = 0;
  std::size_t words_committed_ = 0;
  std::size_t bytes_committed_ = 0;
  bool touched_ = false;
};

}  // namespace kvfreeze::host
