#pragma once

#include <kvfreeze/gpu/detail/warp_scan.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Weights of a group's cells under its heads, by which the lower bits of nested codes are
/// multiplied: the bits of WarpRefine's, from what the scan has folded.
class GroupCells {
 public:
  /// Words from head to head: quads of whole 64 channels.
  static KVFREEZE_HD constexpr int line(int dim) {
    return FoldStorage::weight_words(rounded_up(dim, 64) / 4);
  }

  static KVFREEZE_HD constexpr int bytes(int heads, int dim) { return 4 * heads * line(dim); }

  /// @param memory shared, of the warp: bytes() of it
  __device__ GroupCells(std::uint32_t* memory, int dim)
      : weights_(memory), line_(line(dim)), quads_(rounded_up(dim, 64) / 4), dim_(dim) {}

  /// By the warp; all of it may multiply then.
  __device__ void fold(FoldStorage const& storage, float const* q, int heads) {
    int const lane = static_cast<int>(threadIdx.x % 32);
    own_ = min(lane / 4, heads - 1) * line_;
    int const row = quads_ <= 16 ? 16 : 32;  // lanes of a head
#pragma unroll 1
    for (int i = lane % row; 4 * i < dim_; i += row) {  // mostly once
      // Without planes the width is the cell itself.
      float const factor = cell_factor(max(storage.planes[i], 1));
      fold_quad(storage, q + 4 * i, storage.widths + 4 * i, factor, heads, dim_, lane / row,
                32 / row, weights_ + i, line_);
    }
    clear_quads(weights_, line_, dim_ / 4, quads_, heads, lane);
    __syncwarp();
    int4 sums{0, 0, 0, 0};
    constexpr unsigned ones = 0x01010101U;
    for (int first = 0; first < quads_; first += 8) {
      multiply_codes(sums, {ones, ones, ones, ones}, at(first));
    }
    sum_[0] = sums.x;
    sum_[1] = sums.y;
  }

  /// @brief Products of two rows' residuals, under heads 2 t and 2 t + 1 of lane 4 g + t, whose
  /// rows they are.
  /// @return x, y: the first row's; z, w: the second one's
  template <int Residual>
  [[nodiscard]] __device__ int4 multiply(std::byte const* first_row,
                                         std::byte const* second_row) const {
    constexpr unsigned mask = 0x01010101U * ((1U << Residual) - 1U);
    int const t = static_cast<int>(threadIdx.x % 4);
    int4 sums{0, 0, 0, 0};
    int first = 0;
    if constexpr (Residual == 2) {
      for (; first + 32 <= quads_;
           first += 32) {  // 128 channels, of which half the threads have 64
        uint2 const a = __ldg(reinterpret_cast<uint2 const*>(first_row + first) + t);
        uint2 const b = __ldg(reinterpret_cast<uint2 const*>(second_row + first) + t);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          int const shift = 2 * i;
          multiply_codes(
              sums,
              {a.x >> shift & mask, b.x >> shift & mask, a.y >> shift & mask, b.y >> shift & mask},
              at_quad(first + t / 2 * 16 + t % 2 * 2 + 4 * i));
        }
      }
    }
    for (; first < quads_; first += 16) {  // 64 channels
      if constexpr (Residual == 4) {
        uint2 const a = __ldg(reinterpret_cast<uint2 const*>(first_row + 2 * first) + t);
        uint2 const b = __ldg(reinterpret_cast<uint2 const*>(second_row + 2 * first) + t);
        multiply_codes(sums, {a.x & mask, b.x & mask, a.y & mask, b.y & mask}, at(first));
        multiply_codes(sums, {a.x >> 4 & mask, b.x >> 4 & mask, a.y >> 4 & mask, b.y >> 4 & mask},
                       at(first + 8));
      } else {
        static_assert(Residual == 2);
        unsigned const a = __ldg(reinterpret_cast<unsigned const*>(first_row + first) + t);
        unsigned const b = __ldg(reinterpret_cast<unsigned const*>(second_row + first) + t);
        multiply_codes(sums, {a & mask, b & mask, a >> 2 & mask, b >> 2 & mask}, apart(first));
        multiply_codes(sums, {a >> 4 & mask, b >> 4 & mask, a >> 6 & mask, b >> 6 & mask},
                       apart(first + 8));
      }
    }
    return sums;
  }

  /// @brief The logit of a row whose products add up to `dot`.
  /// @param i of the thread's two heads
  /// @param unit of the head
  template <int Residual>
  [[nodiscard]] __device__ float refined(int i, int dot, float unit, float screen) const {
    // Twice the distance of the residual from its middle, which the screen stood for.
    int const twice = 2 * dot - ((1 << Residual) - 1) * sum_[i];
    return __fmaf_rn(__int2float_rn(twice),
                     __fmul_rn(unit, 1.0F / static_cast<float>(2 << Residual)), screen);
  }

 private:
  /// Weights of eight quads; lane 4 g + t has quads 2 t and 2 t + 1 of head g, or of the last.
  [[nodiscard]] __device__ uint2 at(int first) const {
    return at_quad(first + static_cast<int>(threadIdx.x % 4) * 2);
  }

  /// The same of a quad of the thread's own and the next.
  [[nodiscard]] __device__ uint2 at_quad(int quad) const {
    return two_words(weights_ + own_ + quad);
  }

  /// The same of quads t and t + 4.
  [[nodiscard]] __device__ uint2 apart(int first) const {
    std::uint32_t const* const w = weights_ + own_ + first + threadIdx.x % 4;
    return {w[0], w[4]};
  }

  std::uint32_t* weights_;  ///< [heads][line]
  int line_;
  int quads_;
  int dim_;
  int own_ = 0;      ///< where the weights of the thread's column are
  int sum_[2] = {};  ///< of all weights, of the thread's heads
};

}  // namespace kvfreeze::gpu::detail
