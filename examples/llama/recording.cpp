#include "recording.hpp"

#include <kvfreeze/element.hpp>

#include "user_error.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <fstream>
#include <utility>

namespace llama {

namespace {

template <class T>
void write(std::ofstream& file, std::span<T const> values) {
  static_assert(std::endian::native == std::endian::little);
  file.write(reinterpret_cast<char const*>(values.data()),
             static_cast<std::streamsize>(values.size_bytes()));
}

}  // namespace

void write_recording(Recording const& r, std::string const& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  std::array<std::int32_t, 7> const numbers{r.shape.layers,
                                            r.shape.kv_heads,
                                            r.shape.query_heads,
                                            r.shape.head_dim,
                                            r.rows,
                                            r.queries,
                                            0};
  file.write("KVFREC01", 8);
  write(file, std::span<std::int32_t const>(numbers));
  write(file, std::span<std::uint16_t const>(r.keys));
  write(file, std::span<std::uint16_t const>(r.values));
  write(file, std::span<float const>(r.query_values));
  if (!file.flush()) {
    throw UserError("cannot write the file '" + path + "'");
  }
}

RecordingCache::RecordingCache(std::unique_ptr<AttentionCache> inner, kvfreeze::Shape shape,
                               int rows, int queries)
    : inner_(std::move(inner)) {
  auto const size = [](int n) { return static_cast<std::size_t>(n); };
  recording_.shape = shape;
  recording_.rows = rows;
  recording_.queries = queries;
  std::size_t const elements =
      size(shape.layers) * size(shape.kv_heads) * size(rows) * size(shape.head_dim);
  recording_.keys.resize(elements);
  recording_.values.resize(elements);
  recording_.query_values.resize(size(queries) * size(shape.layers) * size(shape.query_heads) *
                                 size(shape.head_dim));
}

void RecordingCache::attend(int layer, std::span<float const> q, std::span<float const> k,
                            std::span<float const> v, std::span<float> out, kvfreeze::Part part) {
  inner_->attend(layer, q, k, v, out, part);
  if (part.index != 0) {
    return;
  }
  Recording& r = recording_;
  int const dim = r.shape.head_dim;
  int const width = r.shape.query_heads * dim;
  int const tokens = static_cast<int>(q.size()) / width;
  int const first = inner_->length();
  auto const half = [](float x) { return kvfreeze::from_float<kvfreeze::Half>(x).bits; };
  for (int t = 0; t < tokens; ++t) {
    int const row = first + t;
    for (int head = 0; head < r.shape.kv_heads; ++head) {
      auto const to = (static_cast<std::size_t>(layer * r.shape.kv_heads + head) *
                           static_cast<std::size_t>(r.rows) +
                       static_cast<std::size_t>(row)) *
                      static_cast<std::size_t>(dim);
      auto const from = static_cast<std::size_t>((t * r.shape.kv_heads + head) * dim);
      for (std::size_t i = 0; i < static_cast<std::size_t>(dim); ++i) {
        r.keys[to + i] = half(k[from + i]);
        r.values[to + i] = half(v[from + i]);
      }
    }
    int const query = row - (r.rows - r.queries);
    if (query >= 0) {
      std::copy_n(q.begin() + t * width, width,
                  r.query_values.begin() +
                      (static_cast<std::ptrdiff_t>(query) * r.shape.layers + layer) * width);
    }
  }
}

}  // namespace llama
