#pragma once

/// @file
/// @brief Logits of rows with lower bits of nested key codes, by a warp. The bits of the host's
/// `add_residuals`.

#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/detail/warp_fold.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Refines up to 32 rows under up to four heads at a time.
///
/// A row's residuals are multiplied by its group's cells. Those are folded into the queries here,
/// anew for each run of rows of one group: that costs about as much as ten rows, and to keep what
/// the scan folds would cost more traffic than the digests themselves.
/// @tparam Digest NestedKeyCodes
template <class Digest, int Residual>
class WarpRefine {
 public:
  static constexpr int heads = 4;  ///< of a pass over the rows

  /// Shared memory of a warp, a multiple of 16.
  static KVFREEZE_HD constexpr int bytes(int dim) {
    return 4 * rounded_up(dim, 128) + 32 * row_bytes(dim);
  }

  /// @param memory of the warp
  __device__ WarpRefine(std::byte* memory, int dim)
      : weights_(reinterpret_cast<uint4*>(memory)),
        codes_(memory + 4 * rounded_up(dim, 128)),
        dim_(dim) {}

  /// @brief Copies the codes of `count` rows to shared memory: 16 bytes at a time, neighbours by
  /// neighbouring lanes.
  /// @param residual residual(i): lower bits of the key of row i
  template <class Residuals>
  __device__ void stage(int count, Residuals const& residual) const {
    int const lane = static_cast<int>(threadIdx.x % 32);
    auto const mine =
        reinterpret_cast<unsigned long long>(residual(lane < count ? lane : count - 1));
    int const chunks = row_bytes(dim_) / 16;
    int const lanes = chunks <= 1 ? 1 : chunks <= 2 ? 2 : chunks <= 4 ? 4 : chunks <= 8 ? 8 : 16;
    int const chunk = lane & (lanes - 1);
    for (int first = 0; first < count; first += 32 / lanes) {
      int const row = first + lane / lanes;
      auto const* const from = reinterpret_cast<uint4 const*>(__shfl_sync(whole_warp, mine, row));
      if (row < count && chunk < chunks) {
        reinterpret_cast<uint4*>(codes_ + row * row_bytes(dim_))[chunk] = __ldg(from + chunk);
      }
    }
  }

  /// @param q shared memory as stage_queries() fills it, `heads` lines
  /// @param some heads that there are
  /// @param number of the lane's row; rows are those of lanes [0, count)
  /// @param group group(index): a digest group
  /// @param from, to where the lane's row has its logits and gets them, `from_stride` and
  ///   `to_stride` from head to head
  /// @param note note(h, logit): called for each logit that there is, h a constant
  template <class Groups, class Note>
  __device__ void refine(float const* q, int some, std::uint32_t number, int count,
                         Groups const& group, float const* from, std::ptrdiff_t from_stride,
                         float* to, std::ptrdiff_t to_stride, Note const& note) const {
    int const lane = static_cast<int>(threadIdx.x % 32);
    std::uint32_t const my_group = number / static_cast<std::uint32_t>(Digest::group_rows);
    float logit[heads];
#pragma unroll
    for (int h = 0; h < heads; ++h) {
      logit[h] = lane < count && h < some ? __ldcg(from + h * from_stride) : 0.0F;
    }
    Field const first(lane, dim_);
    Cells cells{};
    std::uint32_t current = 0xFFFFFFFFU;
#pragma unroll 1
    for (int row = 0; row < count; ++row) {
      std::uint32_t const here = __shfl_sync(whole_warp, my_group, row);
      if (here != current) {
        current = here;
        __syncwarp();  // the weights before are read, the codes are there
        cells = fold(q, group(here), lane);
        __syncwarp();
      }
      std::byte const* const code = codes_ + row * row_bytes(dim_);
      int dot[heads] = {};
      multiply(dot, first, code, lane);
#pragma unroll 1
      for (int quad = lane + 32; quad < rounded_up(dim_, 128) / 4; quad += 32) {
        multiply(dot, Field(quad, dim_), code, quad);
      }
#pragma unroll
      for (int h = 0; h < heads; ++h) {
        // Twice the distance of the residual from its middle, which the screen stood for.
        int const twice = 2 * __reduce_add_sync(whole_warp, dot[h]) - cells.middle[h];
        float const refined = __fmaf_rn(__int2float_rn(twice), cells.part[h], logit[h]);
        logit[h] = lane == row ? refined : logit[h];
      }
    }
#pragma unroll
    for (int h = 0; h < heads; ++h) {
      if (lane < count && h < some) {
        to[h * to_stride] = logit[h];
        note(h, logit[h]);
      }
    }
  }

 private:
  /// What turns the products of one group into logits.
  struct Cells {
    float part[heads];  ///< of the unit: a residual's step, halved
    int middle[heads];  ///< twice the product of the middle of all residuals
  };

  /// Where a channel quad's residuals lie; quads that there are not have weights of 0.
  struct Field {
    int byte;
    int shift;

    __device__ Field(int quad, int dim) {
      host::ResidualPlace<Residual> const place(quad < dim / 4 ? quad : 0);
      byte = place.byte;
      shift = place.shift;
    }
  };

  static KVFREEZE_HD constexpr int row_bytes(int dim) {
    return static_cast<int>(host::residual_bytes<Residual>(dim));
  }

  __device__ void multiply(int (&dot)[heads], Field field, std::byte const* code, int quad) const {
    constexpr unsigned mask = 0x01010101U * ((1U << Residual) - 1U);
    unsigned const word = *reinterpret_cast<unsigned const*>(code + field.byte);
    auto const four = static_cast<int>((word >> field.shift) & mask);
    uint4 const w = weights_[quad];
    dot[0] = __dp4a(four, static_cast<int>(w.x), dot[0]);
    dot[1] = __dp4a(four, static_cast<int>(w.y), dot[1]);
    dot[2] = __dp4a(four, static_cast<int>(w.z), dot[2]);
    dot[3] = __dp4a(four, static_cast<int>(w.w), dot[3]);
  }

  /// Weights of a group's cells under four heads: for each quad a head in each word.
  __device__ __forceinline__ Cells fold(float const* q, std::byte const* group, int lane) const {
    Half const* const quarters = Digest::codes(group, dim_).quarters;
    auto const query = [&](int h, int c) { return load_quad(q + h * query_line(dim_) + c); };
    float most[heads] = {};
#pragma unroll 1
    for (int c = 4 * lane; c < dim_; c += 128) {
      int planes = 0;
      float4 const quarter = load_quarters(quarters + c, planes);
      float4 const widest = planes == 0 ? product(quarter, cell_factor(0)) : quarter;
#pragma unroll
      for (int h = 0; h < heads; ++h) {
        float4 const w = product(query(h, c), widest);
        most[h] =
            fmaxf(fmaxf(most[h], fmaxf(fabsf(w.x), fabsf(w.y))), fmaxf(fabsf(w.z), fabsf(w.w)));
      }
    }
    float const highest = reduce<32>(most, lane, [](float a, float b) { return fmaxf(a, b); });
    // One division for all: the first of a head's lanes has the unit, the others its inverse.
    constexpr int lanes = 32 / heads;
    bool const is_unit = lane % lanes == 0;
    float quotient = __fdiv_rn(is_unit ? highest : 127.0F, is_unit ? 127.0F : highest);
    quotient = is_unit || highest > 0x1p-100F ? quotient : 0.0F;
    Cells cells;
    float inverse[heads];
    int sum[heads] = {};
#pragma unroll
    for (int h = 0; h < heads; ++h) {
      float const unit = __shfl_sync(whole_warp, quotient, lanes * h);
      inverse[h] = __shfl_sync(whole_warp, quotient, lanes * h + 1);
      cells.part[h] = __fmul_rn(unit, 1.0F / static_cast<float>(2 << Residual));
    }
#pragma unroll 1
    for (int c = 4 * lane; c < rounded_up(dim_, 128); c += 128) {
      std::uint32_t word[heads] = {};
      if (c < dim_) {
        int planes = 0;
        float4 const quarter = load_quarters(quarters + c, planes);
        float const factor = cell_factor(planes);
#pragma unroll
        for (int h = 0; h < heads; ++h) {
          word[h] = pack_weights(product(product(query(h, c), quarter), inverse[h]), factor);
          sum[h] = __dp4a(static_cast<int>(word[h]), 0x01010101, sum[h]);
        }
      }
      weights_[c / 4] = {word[0], word[1], word[2], word[3]};
    }
#pragma unroll
    for (int h = 0; h < heads; ++h) {
      cells.middle[h] = ((1 << Residual) - 1) * __reduce_add_sync(whole_warp, sum[h]);
    }
    return cells;
  }

  uint4* weights_;  ///< [dim up to 128, in quads]
  std::byte* codes_;
  int dim_;
};

}  // namespace kvfreeze::gpu::detail
