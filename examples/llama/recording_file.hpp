#pragma once

/// @file
/// @brief The file in which a model's keys, values, queries and logits are handed on, written by
/// the engine, read by examples/gpu_replay and benchmarks/growth. Needs nothing else of the engine.

#include <kvfreeze/element.hpp>
#include <kvfreeze/types.hpp>

#include "user_error.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace llama {

/// A file that is no recording, of another version, damaged or cut short. The message names it.
class RecordingError : public UserError {
 public:
  using UserError::UserError;
};

/// @brief What a model gave its cache: keys and values of every row; queries, and perhaps logits,
/// of the last ones.
///
/// The file, little-endian, without gaps:
///   8 bytes   "KVFREC01": what it is, and the version
///   7 x i32   layers, kv_heads, query_heads, head_dim, rows, queries, vocabulary (0: no logits)
///   u16       keys, rotated, IEEE half: [layers][kv_heads][rows][head_dim]
///   u16       values, IEEE half:        [layers][kv_heads][rows][head_dim]
///   f32       queries, rotated, of the last `queries` rows:
///   [queries][layers][query_heads][head_dim]
///   u16       logits after those rows, bfloat16: [queries][vocabulary]
struct Recording {
  static constexpr std::string_view magic = "KVFREC";
  static constexpr std::string_view version = "01";

  kvfreeze::Shape shape;
  int rows = 0;
  int queries = 0;
  int vocabulary = 0;
  std::vector<kvfreeze::Half> keys;
  std::vector<kvfreeze::Half> values;
  std::vector<float> query_values;
  std::vector<kvfreeze::BFloat16> logit_values;

  Recording() = default;

  /// All zero.
  Recording(kvfreeze::Shape const& recorded, int row_count, int query_count, int vocabulary_size)
      : shape(recorded), rows(row_count), queries(query_count), vocabulary(vocabulary_size) {
    keys.resize(row_elements());
    values.resize(keys.size());
    query_values.resize(query_elements());
    logit_values.resize(logit_elements());
  }

  [[nodiscard]] std::size_t row_elements() const {
    return size(shape.layers) * size(shape.kv_heads) * size(rows) * size(shape.head_dim);
  }

  [[nodiscard]] std::size_t query_elements() const {
    return size(queries) * size(shape.layers) * query_width();
  }

  [[nodiscard]] std::size_t logit_elements() const { return size(queries) * size(vocabulary); }

  /// @param lane layer * kv_heads + KV head
  [[nodiscard]] std::span<kvfreeze::Half const> key(int lane, int row) const {
    return std::span(keys).subspan(row_at(lane, row), size(shape.head_dim));
  }

  [[nodiscard]] std::span<kvfreeze::Half const> value(int lane, int row) const {
    return std::span(values).subspan(row_at(lane, row), size(shape.head_dim));
  }

  /// @brief All heads of a layer.
  /// @param query 0 is the row `rows - queries`
  [[nodiscard]] std::span<float const> query(int query, int layer) const {
    return std::span(query_values).subspan(query_at(query, layer), query_width());
  }

  [[nodiscard]] std::span<kvfreeze::BFloat16 const> logits(int query) const {
    return std::span(logit_values).subspan(size(query) * size(vocabulary), size(vocabulary));
  }

  [[nodiscard]] std::size_t row_at(int lane, int row) const {
    return (size(lane) * size(rows) + size(row)) * size(shape.head_dim);
  }

  [[nodiscard]] std::size_t query_at(int query, int layer) const {
    return (size(query) * size(shape.layers) + size(layer)) * query_width();
  }

  /// Forgets all layers but the first `layers`.
  void keep_layers(int layers) {
    if (layers >= shape.layers) {
      return;
    }
    std::size_t const of_query = size(layers) * query_width();
    for (int i = 0; i < queries; ++i) {
      std::copy_n(query_values.begin() + static_cast<std::ptrdiff_t>(query_at(i, 0)), of_query,
                  query_values.begin() + static_cast<std::ptrdiff_t>(size(i) * of_query));
    }
    shape.layers = layers;
    keys.resize(row_elements());
    values.resize(row_elements());
    query_values.resize(query_elements());
  }

 private:
  static std::size_t size(int n) { return static_cast<std::size_t>(n); }

  [[nodiscard]] std::size_t query_width() const {
    return size(shape.query_heads) * size(shape.head_dim);
  }
};

namespace detail {

static_assert(std::endian::native == std::endian::little);

using RecordingNumbers = std::array<std::int32_t, 7>;

template <class T>
void write_values(std::ofstream& file, std::span<T const> values) {
  file.write(reinterpret_cast<char const*>(values.data()),
             static_cast<std::streamsize>(values.size_bytes()));
}

template <class T>
void read_values(std::ifstream& file, std::span<T> values) {
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size_bytes()));
}

/// Sizes that fit together and whose products do not overflow.
inline bool is_sound(RecordingNumbers const& n) {
  auto const in = [](std::int32_t x, std::int32_t low, std::int32_t high) {
    return x >= low && x <= high;
  };
  return in(n[0], 1, 4096) && in(n[1], 1, 4096) && in(n[2], n[1], 4096) && n[2] % n[1] == 0 &&
         in(n[3], 1, 1024) && in(n[4], 1, 1 << 24) && in(n[5], 0, n[4]) && in(n[6], 0, 1 << 24);
}

}  // namespace detail

/// @throws RecordingError if the file cannot be written
inline void write_recording(Recording const& r, std::string const& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  detail::RecordingNumbers const numbers{r.shape.layers,   r.shape.kv_heads, r.shape.query_heads,
                                         r.shape.head_dim, r.rows,           r.queries,
                                         r.vocabulary};
  detail::write_values(file, std::span<char const>(Recording::magic));
  detail::write_values(file, std::span<char const>(Recording::version));
  detail::write_values(file, std::span<std::int32_t const>(numbers));
  detail::write_values(file, std::span<kvfreeze::Half const>(r.keys));
  detail::write_values(file, std::span<kvfreeze::Half const>(r.values));
  detail::write_values(file, std::span<float const>(r.query_values));
  detail::write_values(file, std::span<kvfreeze::BFloat16 const>(r.logit_values));
  if (!file.flush()) {
    throw RecordingError("cannot write the file '" + path + "'");
  }
}

/// @throws RecordingError if the file cannot be read, is no recording, is of another version, its
/// sizes cannot be, or it has more or fewer bytes than they ask for
inline Recording read_recording(std::string const& path) {
  std::string const name = "'" + path + "'";
  std::ifstream file(path, std::ios::binary);
  std::error_code unknown;
  std::uintmax_t const bytes = std::filesystem::file_size(path, unknown);
  if (!file || unknown) {
    throw RecordingError("cannot read the file " + name);
  }
  std::array<char, Recording::magic.size() + Recording::version.size()> head{};
  detail::RecordingNumbers n{};
  detail::read_values(file, std::span<char>(head));
  detail::read_values(file, std::span<std::int32_t>(n));
  std::string_view const found(head.data(), head.size());
  if (!found.starts_with(Recording::magic)) {
    throw RecordingError(name + " is no recording; examples/run.sh record makes one");
  }
  if (!found.ends_with(Recording::version)) {
    throw RecordingError(name + " is of version " +
                         std::string(found.substr(Recording::magic.size())) + ", expected " +
                         std::string(Recording::version));
  }
  if (!file || !detail::is_sound(n)) {
    throw RecordingError(name + " has a header that cannot be");
  }
  Recording r;
  r.shape = {.layers = n[0], .query_heads = n[2], .kv_heads = n[1], .head_dim = n[3]};
  r.rows = n[4];
  r.queries = n[5];
  r.vocabulary = n[6];
  std::uintmax_t const expected =
      head.size() + sizeof n + 2 * r.row_elements() * sizeof(kvfreeze::Half) +
      r.query_elements() * sizeof(float) + r.logit_elements() * sizeof(kvfreeze::BFloat16);
  if (bytes != expected) {
    throw RecordingError(name + " has " + std::to_string(bytes) + " bytes, its header asks for " +
                         std::to_string(expected));
  }
  r = Recording(r.shape, r.rows, r.queries, r.vocabulary);
  detail::read_values(file, std::span(r.keys));
  detail::read_values(file, std::span(r.values));
  detail::read_values(file, std::span(r.query_values));
  detail::read_values(file, std::span(r.logit_values));
  if (!file) {
    throw RecordingError("reading " + name + " failed");
  }
  return r;
}

}  // namespace llama
