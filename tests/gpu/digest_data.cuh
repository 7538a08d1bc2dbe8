#pragma once

/// @file
/// @brief Keys, queries and digests for tests of what reads and makes digests on the device.

#include <kvfreeze/element.hpp>
#include <kvfreeze/policy_traits.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <gpu/device.cuh>
#include <random>
#include <vector>

namespace kvfreeze::gpu::test {

inline std::vector<float> normal_numbers(std::size_t count, unsigned seed, float sigma = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(count);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

inline constexpr unsigned key_kinds = 7;

/// Keys [rows][dim] of which seed % key_kinds says what they are like.
inline std::vector<float> make_keys(int rows, int dim, unsigned seed) {
  auto keys = normal_numbers(static_cast<std::size_t>(rows * dim), seed);
  auto const widths = normal_numbers(static_cast<std::size_t>(dim), seed + 1);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    std::size_t const c = i % static_cast<std::size_t>(dim);
    float& k = keys[i];
    switch (seed % key_kinds) {
      case 1:  // outlying and constant channels
        k = c % 16 == 3 ? 1.5F : c % 8 == 0 ? k + 30.0F : k;
        break;
      case 2:  // widths that are unlike
        k = k * std::exp(widths[c]) + 3.0F * widths[c];
        break;
      case 3:  // steps that Half does not hold well, or not at all
        k *= c % 3 == 0 ? 1e-6F : 3e-8F;
        break;
      case 4:  // beyond Half
        k *= 1e7F;
        break;
      case 5:  // zeros of either sign, rows of zeros, and few numbers
        k = c % 4 == 0 ? std::copysign(0.0F, k) : c % 4 == 1 ? std::trunc(k) : 0.0F;
        break;
      case 6:  // all alike but for one row
        k = i < static_cast<std::size_t>(dim) ? k : -0.25F;
        break;
      default:
        break;
    }
  }
  return keys;
}

/// Queries [heads][dim]: ordinary ones, one of zeros, one about as small as may still weigh, one
/// large.
inline std::vector<float> make_queries(int heads, int dim, unsigned seed) {
  auto q = normal_numbers(static_cast<std::size_t>(heads * dim), seed, 0.4F);
  for (int h = 0; h < heads; ++h) {
    for (int c = 0; c < dim; ++c) {
      float& x = q[static_cast<std::size_t>(h * dim + c)];
      x = h % 5 == 1   ? 0.0F
          : h % 5 == 3 ? std::ldexp(x, -92 - (static_cast<int>(5 * seed) + 3 * h + dim / 8) % 14)
          : h % 5 == 4 ? x * 1e4F
                       : x;
    }
  }
  return q;
}

/// Sums of squares by channel, of many sizes.
inline std::vector<float> make_importance(int dim, unsigned seed) {
  auto sums = normal_numbers(static_cast<std::size_t>(dim), seed, 2.0F);
  for (float& x : sums) {
    x = std::exp(x);
  }
  sums[0] = 1e25F;
  sums[static_cast<std::size_t>(dim - 1)] = 0.0F;
  return sums;
}

template <class Digest>
std::vector<std::byte> encoded(std::vector<float> const& keys, float const* importance, int dim) {
  std::vector<std::byte> group(Digest::bytes(dim), std::byte{0xA5});
  if constexpr (kvfreeze::detail::WeighsChannels<Digest>) {
    Digest::encode(keys.data(), importance, dim, group.data());
  } else {
    Digest::encode(keys.data(), dim, group.data());
  }
  return group;
}

/// @brief Digest groups of every kind of keys, one behind another.
template <class Digest>
std::vector<std::byte> make_groups(int count, int dim, unsigned seed) {
  std::vector<std::byte> out;
  for (int g = 0; g < count; ++g) {
    unsigned const mine = seed + static_cast<unsigned>(g);
    auto const importance = make_importance(dim, mine);
    auto const group = encoded<Digest>(make_keys(Digest::group_rows, dim, mine),
                                       g % 2 == 0 ? importance.data() : nullptr, dim);
    out.insert(out.end(), group.begin(), group.end());
  }
  return out;
}

template <class T>
std::vector<T> narrowed(std::vector<float> const& values) {
  std::vector<T> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    out[i] = from_float<T>(values[i]);
  }
  return out;
}

template <class T>
std::vector<float> widened(std::vector<T> const& values) {
  std::vector<float> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    out[i] = to_float(values[i]);
  }
  return out;
}

/// Elements of `a` whose bits are not those of `b`.
template <class T>
std::size_t count_different(std::vector<T> const& a, std::vector<T> const& b) {
  std::size_t count = a.size() == b.size() ? 0 : a.size() + b.size();
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    count += std::memcmp(&a[i], &b[i], sizeof(T)) != 0 ? 1 : 0;
  }
  return count;
}

/// Items that lie on pages of a pool, out of order, or one behind another.
class PagedItems {
 public:
  /// @param items [count][bytes]
  /// @param per_page items on a page; 0: no pages
  PagedItems(std::vector<std::byte> const& items, std::size_t bytes, std::uint32_t per_page)
      : bytes_(bytes), per_page_(per_page) {
    if (per_page == 0) {
      memory_ = upload(items);
      return;
    }
    page_bytes_ = (per_page * bytes + 255) / 256 * 256;
    std::size_t const count = items.size() / bytes;
    std::size_t const pages = (count + per_page - 1) / per_page;
    std::vector<std::byte> pool((pages + 1) * page_bytes_, std::byte{0x5A});
    std::vector<std::uint32_t> table(pages);
    for (std::size_t page = 0; page < pages; ++page) {
      table[page] = static_cast<std::uint32_t>(pages - page);
    }
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(pool.data() + table[i / per_page] * page_bytes_ + i % per_page * bytes,
                  items.data() + i * bytes, bytes);
    }
    memory_ = upload(pool);
    table_ = upload(table);
  }

  template <class Pages>
  [[nodiscard]] Pages view() const {
    return per_page_ == 0 ? Pages(memory_.data(), bytes_)
                          : Pages(memory_.data(), table_.data(), per_page_, page_bytes_, bytes_);
  }

 private:
  DeviceArray<std::byte> memory_;
  DeviceArray<std::uint32_t> table_;
  std::size_t bytes_;
  std::size_t page_bytes_ = 0;
  std::uint32_t per_page_;
};

}  // namespace kvfreeze::gpu::test
