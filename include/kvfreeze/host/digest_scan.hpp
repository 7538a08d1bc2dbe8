#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/host/kernels/segments.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace kvfreeze::host {

namespace detail {

/// @brief Rows that a scan writes.
/// @param group_bytes, logits sizes of what the caller gave
/// @throws InvalidArgument if a size does not fit
template <DigestPolicy Digest>
std::size_t scanned_rows(DigestQuery const& query, std::size_t group_bytes, std::size_t logits,
                         std::size_t stride) {
  if (query.values == nullptr || query.heads < 1 || query.dim < 8 || query.dim > 512 ||
      query.dim % 8 != 0) {
    throw InvalidArgument("digest_scan: the query has " + std::to_string(query.heads) +
                          " heads of " + std::to_string(query.dim) +
                          " elements; expected at least one, of a multiple of 8 in [8, 512]");
  }
  std::size_t const bytes = Digest::bytes(query.dim);
  std::size_t const count = group_bytes / bytes;
  std::size_t const rows = count * static_cast<std::size_t>(Digest::group_rows);
  auto const heads = static_cast<std::size_t>(query.heads);
  check_size("digest_scan", "groups", group_bytes, count * bytes);
  if (stride < rows || (rows != 0 && logits < (heads - 1) * stride + rows)) {
    throw InvalidArgument("digest_scan: " + std::to_string(heads) + " heads of " +
                          std::to_string(rows) + " rows do not fit in " + std::to_string(logits) +
                          " logits of stride " + std::to_string(stride));
  }
  return rows;
}

}  // namespace detail

/// @brief Estimated logits of all rows of consecutive digest groups.
/// @tparam Digest a DigestPolicy with rows
/// @param query q * scale * log2(e) of one KV head: estimates are octaves
/// @param groups [count][Digest::bytes(dim)]
/// @param logits `logits[h * stride + row]`; at least (heads - 1) * stride + rows of them
/// @param stride from head to head, at least the rows
/// @return rows scanned: count * Digest::group_rows
/// @throws InvalidArgument if a size does not fit
/// @complexity O(rows * heads * dim), reads each group once per four heads
template <DigestPolicy Digest>
  requires(Digest::group_rows > 0)
std::size_t digest_scan(DigestQuery const& query, std::span<std::byte const> groups,
                        std::span<float> logits, std::size_t stride) {
  std::size_t const rows =
      detail::scanned_rows<Digest>(query, groups.size(), logits.size(), stride);
  constexpr auto group_rows = static_cast<std::size_t>(Digest::group_rows);
  for (std::size_t g = 0; g < rows / group_rows; ++g) {
    Digest::scan(query, groups.data() + g * Digest::bytes(query.dim),
                 logits.data() + g * group_rows, static_cast<std::ptrdiff_t>(stride));
  }
  return rows;
}

}  // namespace kvfreeze::host
