#pragma once

/// @file
/// @brief Lanes for tests of scans, and what the tests of all digests have in common.

#include <kvfreeze/gpu/digest_scan.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/digest_data.cuh>
#include <iostream>
#include <vector>

namespace kvfreeze::gpu::test {

inline constexpr float untouched = -5.0F;

/// One lane of a batch, on the host and on the device.
template <class Digest>
struct ScanLane {
  int heads;
  int dim;
  std::size_t count;
  std::size_t stride;
  std::vector<std::byte> groups;
  std::vector<float> query;
  std::vector<std::uint8_t> awake;
  PagedItems device_groups;
  DeviceArray<float> device_query;
  DeviceArray<float> device_logits;
  DeviceArray<std::uint8_t> device_awake;

  ScanLane(int lane_heads, int lane_dim, int group_count, unsigned seed)
      : heads(lane_heads),
        dim(lane_dim),
        count(static_cast<std::size_t>(group_count)),
        stride(count * Digest::group_rows + seed % 3),  // even and odd ones
        groups(make_groups<Digest>(group_count, dim, seed)),
        query(make_queries(heads, dim, seed)),
        awake(count),
        device_groups(groups, Digest::bytes(dim), seed % 2 == 0 ? 0 : 3),
        device_query(upload(query)),
        device_logits(filled(static_cast<std::size_t>(heads) * stride, untouched)) {
    for (std::size_t g = 0; g < count; ++g) {
      awake[g] = g % 4 != 2;
    }
    device_awake = upload(awake);
  }

  [[nodiscard]] bool has_sleepers() const { return count % 2 == 1; }

  [[nodiscard]] DigestLane descriptor() const {
    DigestLane lane;
    lane.groups = device_groups.template view<CodePages>();
    lane.count = static_cast<std::uint32_t>(count);
    lane.stride = static_cast<std::uint32_t>(stride);
    lane.query = device_query.data();
    lane.logits = device_logits.data();
    lane.awake = has_sleepers() ? device_awake.data() : nullptr;
    return lane;
  }

  [[nodiscard]] std::vector<float> expected() const {
    std::vector<float> logits(device_logits.size(), untouched);
    for (std::size_t g = 0; g < count; ++g) {
      if (!has_sleepers() || awake[g] != 0) {
        Digest::scan({query.data(), heads, dim}, groups.data() + g * Digest::bytes(dim),
                     logits.data() + g * Digest::group_rows, static_cast<std::ptrdiff_t>(stride));
      }
    }
    return logits;
  }
};

template <class Digest>
void check_scans(int heads, int dim) {
  CAPTURE(heads, dim, Digest::group_rows);
  Stream const stream;
  std::vector<ScanLane<Digest>> lanes;
  std::vector<DigestLane> descriptors;
  std::size_t most = 0;
  unsigned seed = 0;
  for (int const groups : {4, 0, 1, 15, 9}) {
    lanes.emplace_back(heads, dim, groups, seed++);
    descriptors.push_back(lanes.back().descriptor());
    most = std::max(most, lanes.back().count);
  }
  auto const device_lanes = upload(descriptors);
  digest_scan_async<Digest>(device_lanes.span(), heads, dim, most, stream);
  for (auto const& lane : lanes) {
    CAPTURE(lane.count);
    CHECK(count_different(download(lane.device_logits, stream), lane.expected()) == 0);
  }
}

/// Every number of heads, and head_dims of models and others.
template <class Digest>
void check_all_scans() {
  for (int const dim : {64, 96, 128, 256}) {
    check_scans<Digest>(5, dim);
  }
  for (int heads = 1; heads <= 8; ++heads) {
    check_scans<Digest>(heads, 64);
  }
  check_scans<Digest>(3, 8);
  check_scans<Digest>(11, 40);
  check_scans<Digest>(2, 512);
}

/// @brief Counts what a batch of scans asks of the device.
/// @param overhead bytes that may be loaded for each of the digests': queries, descriptors
template <class Digest>
void check_scan_traffic(double overhead) {
  Stream const stream;
  constexpr int heads = 4;
  constexpr int dim = 128;
  constexpr int groups = 64;
  std::vector<ScanLane<Digest>> lanes;
  std::vector<DigestLane> descriptors;
  for (unsigned const seed : {0U, 6U}) {  // strides that let pairs of logits be stored at once
    lanes.emplace_back(heads, dim, groups, seed);
    descriptors.push_back(lanes.back().descriptor());
  }
  auto const device_lanes = upload(descriptors);
  auto const stats = count(
      stream, [&] { digest_scan_async<Digest>(device_lanes.span(), heads, dim, groups, stream); });
  if (!stats) {
    WARN("nobody counts on this device");
    return;
  }
  CHECK(stats->kernel_launches == 1);
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs == 0);
  double const rows = 2.0 * groups * Digest::group_rows;
  double const digests = 2.0 * groups * static_cast<double>(Digest::bytes(dim));
  double const logits = rows * heads * sizeof(float);
  double const loaded = 32.0 * static_cast<double>(stats->global_load_sectors);
  double const stored = 32.0 * static_cast<double>(stats->global_store_sectors);
  std::cout << Digest::bytes(dim) << " bytes for " << Digest::group_rows << " rows: a row loads "
            << loaded / rows << " bytes in sectors, " << digests / rows
            << " of them of digests, and stores " << stored / rows << " under " << heads
            << " heads; " << static_cast<double>(stats->warp_instructions) / rows
            << " warp instructions\n";
  CHECK(static_cast<double>(stats->global_store_bytes) == logits);
  CHECK(stored == logits);
  CHECK(loaded < overhead * digests);
}

}  // namespace kvfreeze::gpu::test
