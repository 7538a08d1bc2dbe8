#pragma once

#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/convert.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

/// Arrays behind an OnlineSoftmax.
struct AttentionState {
  std::vector<float> max, sum, out;
  kvfreeze::host::OnlineSoftmax view;

  AttentionState(int heads, int dim)
      : max(static_cast<std::size_t>(heads)),
        sum(max.size()),
        out(static_cast<std::size_t>(heads * dim)),
        view{heads, dim, max.data(), sum.data(), out.data()} {
    view.reset();
  }
};

inline std::vector<float> normal_numbers(std::size_t n, unsigned seed, float sigma = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(n);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

/// Rows in blocks of 16, of which a KV head is the part from `offset` on.
template <kvfreeze::Element T>
struct AttentionRows {
  std::vector<T> data;
  kvfreeze::host::RowBlocks<T> blocks;

  AttentionRows(int rows, int row_elements, int offset, unsigned seed, std::size_t spare = 32)
      : data(static_cast<std::size_t>((rows + 15) / 16) *
             (32U * static_cast<std::size_t>(row_elements) + spare)) {
    std::vector<float> const numbers = normal_numbers(data.size(), seed);
    kvfreeze::host::from_floats(numbers.data(), data.data(), data.size());
    blocks.base = reinterpret_cast<std::byte const*>(data.data());
    blocks.block_bytes = (32U * static_cast<std::size_t>(row_elements) + spare) * sizeof(T);
    blocks.row_elements = row_elements;
    blocks.offset = offset;
  }
};

/// Attention in doubles.
template <kvfreeze::Element T>
void naive_attention(kvfreeze::host::RowBlocks<T> const& rows,
                     std::vector<std::uint32_t> const& slots, float const* q, int heads, int dim,
                     std::vector<double>& out, std::vector<double>& lse) {
  out.assign(static_cast<std::size_t>(heads * dim), 0.0);
  lse.assign(static_cast<std::size_t>(heads), 0.0);
  for (int h = 0; h < heads; ++h) {
    std::vector<double> logits;
    double highest = -1e300;
    for (std::uint32_t const slot : slots) {
      double dot = 0.0;
      for (int d = 0; d < dim; ++d) {
        dot += static_cast<double>(q[h * dim + d]) *
               static_cast<double>(kvfreeze::to_float(rows.k(slot)[d]));
      }
      logits.push_back(dot);
      highest = std::max(highest, dot);
    }
    double sum = 0.0;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      double const weight = std::exp2(logits[i] - highest);
      sum += weight;
      for (int d = 0; d < dim; ++d) {
        out[static_cast<std::size_t>(h * dim + d)] +=
            weight * static_cast<double>(kvfreeze::to_float(rows.v(slots[i])[d]));
      }
    }
    for (int d = 0; d < dim; ++d) {
      out[static_cast<std::size_t>(h * dim + d)] /= sum;
    }
    lse[static_cast<std::size_t>(h)] = (highest + std::log2(sum)) * std::log(2.0);
  }
}
