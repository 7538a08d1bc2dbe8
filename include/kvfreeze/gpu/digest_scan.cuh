#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/gpu/detail/digest_scan_kernels.cuh>
#include <kvfreeze/gpu/detail/digest_shape.cuh>
#include <kvfreeze/gpu/digest_lane.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/host/digest_scan.hpp>

#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace kvfreeze::gpu {

namespace detail {

template <class Digest, int Pairs>
void launch_digest_scan(DigestLane const* lanes, DigestLane const& only, std::size_t count,
                        std::size_t most_groups, int heads, int dim, ::cuda::stream_ref stream) {
  int warps = most_scan_threads / 32;
  while (warps > 1 && digest_scan_bytes<Digest>(warps, Pairs, dim) > default_shared_bytes) {
    warps /= 2;
  }
  // One lane's groups are dealt to blocks in chunks: large ones, so that queries are staged less
  // often, where that leaves blocks enough for any device.
  auto per_block = static_cast<std::size_t>(warps);
  while (per_block < std::size_t{4} * static_cast<std::size_t>(warps) &&
         count * most_groups >= 2048 * per_block) {
    per_block *= 2;
  }
  std::size_t const chunks = (most_groups + per_block - 1) / per_block;
  std::size_t const blocks = chunks * count;
  if (blocks > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw InvalidArgument("digest_scan: " + std::to_string(count) + " lanes of " +
                          std::to_string(most_groups) + " groups are more than one launch scans");
  }
  digest_scan_kernel<Digest, Pairs>
      <<<static_cast<unsigned>(blocks), static_cast<unsigned>(32 * warps),
         digest_scan_bytes<Digest>(warps, Pairs, dim), stream.get()>>>(
          lanes, only, static_cast<unsigned>(chunks), static_cast<unsigned>(per_block), heads, dim);
  check_launch("digest_scan_kernel");
}

template <class Digest>
void scan_digests(DigestLane const* lanes, DigestLane const& only, std::size_t count,
                  std::size_t most_groups, int heads, int dim, ::cuda::stream_ref stream) {
  if (count == 0 || most_groups == 0) {
    return;
  }
  if (heads <= 2) {
    launch_digest_scan<Digest, 1>(lanes, only, count, most_groups, heads, dim, stream);
  } else if (heads <= 4) {
    launch_digest_scan<Digest, 2>(lanes, only, count, most_groups, heads, dim, stream);
  } else {
    launch_digest_scan<Digest, 4>(lanes, only, count, most_groups, heads, dim, stream);
  }
}

}  // namespace detail

/// @brief Estimated logits of all rows of many lanes' digest groups, in one launch.
///
/// The same floats to the bit as Digest::scan gives on the host. Rows of a lane are counted group
/// by group.
/// @tparam Digest KeyCodes, NestedKeyCodes, BoxDigest, CuboidDigest, MeanKeyDigest, ExactKeys or
///   PartialKeys
/// @param lanes in device memory; what they point to must stay until the work is done
/// @param heads query heads of a lane, in [1, 64]
/// @param dim a multiple of 8 in [8, 512]
/// @param most_groups the largest DigestLane::count; lanes with fewer cost next to nothing
/// @throws InvalidArgument if a number is out of range; CudaError
/// @complexity O(rows * heads * dim); reads each group once per eight heads
template <DigestPolicy Digest>
  requires(Digest::group_rows > 0)
void digest_scan_async(Span<DigestLane const> lanes, int heads, int dim, std::size_t most_groups,
                       ::cuda::stream_ref stream) {
  detail::check_heads("digest_scan", heads);
  detail::check_dim("digest_scan", dim);
  detail::scan_digests<Digest>(lanes.data(), {}, lanes.size(), most_groups, heads, dim, stream);
}

/// @brief The same for consecutive groups of one lane: host::digest_scan on the device.
/// @param query q * scale * log2(e) of one KV head, on the device, aligned to 16
/// @param groups [count][Digest::bytes(dim)], aligned to 16
/// @param logits `logits[h * stride + row]`; at least (heads - 1) * stride + rows of them
/// @param stride from head to head, at least the rows
/// @return rows scanned: count * Digest::group_rows
/// @throws InvalidArgument if a size does not fit; CudaError
template <DigestPolicy Digest>
  requires(Digest::group_rows > 0)
std::size_t digest_scan_async(DigestQuery const& query, Span<std::byte const> groups,
                              Span<float> logits, std::size_t stride, ::cuda::stream_ref stream) {
  std::size_t const rows =
      host::detail::scanned_rows<Digest>(query, groups.size(), logits.size(), stride);
  detail::check_heads("digest_scan", query.heads);
  detail::check_aligned("digest_scan", "query.values", query.values);
  detail::check_aligned("digest_scan", "groups", groups.data());
  if (rows > std::numeric_limits<std::uint32_t>::max() ||
      stride > std::numeric_limits<std::uint32_t>::max()) {
    throw InvalidArgument("digest_scan: " + std::to_string(rows) + " rows with a stride of " +
                          std::to_string(stride) + ", expected below 2^32");
  }
  DigestLane lane;
  lane.groups = CodePages(groups.data(), Digest::bytes(query.dim));
  lane.count = static_cast<std::uint32_t>(rows / static_cast<std::size_t>(Digest::group_rows));
  lane.stride = static_cast<std::uint32_t>(stride);
  lane.query = query.values;
  lane.logits = logits.data();
  detail::scan_digests<Digest>(nullptr, lane, 1, lane.count, query.heads, query.dim, stream);
  return rows;
}

/// @brief `digest_scan_async` of one lane, waited for.
template <DigestPolicy Digest>
  requires(Digest::group_rows > 0)
std::size_t digest_scan(DigestQuery const& query, Span<std::byte const> groups, Span<float> logits,
                        std::size_t stride, ::cuda::stream_ref stream) {
  std::size_t const rows = digest_scan_async<Digest>(query, groups, logits, stride, stream);
  stream.wait();
  return rows;
}

}  // namespace kvfreeze::gpu
