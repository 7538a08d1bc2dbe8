#pragma once

/// @file
/// @brief Attention as an engine might have it, over a cache's pages, beside the cache's own.

#include <kvfreeze/gpu/merge.cuh>
#include <kvfreeze/gpu/paged_view.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <gpu/twins.cuh>
#include <vector>

namespace kvfreeze::gpu::test {

inline constexpr int foreign_dim = small.head_dim;

/// A block for each lane and query head, a thread a channel.
static __global__ void foreign_attend(PagedView<Half> view, PageLists lists, float const* q,
                                      float scale, float* out, float* lse) {
  constexpr int dim = foreign_dim;
  __shared__ float parts[dim];
  int const lane = static_cast<int>(blockIdx.x);
  int const head = static_cast<int>(blockIdx.x * gridDim.y + blockIdx.y);
  auto const d = static_cast<int>(threadIdx.x);
  int const first = lists.first[static_cast<std::size_t>(lane)];
  int const pages = lists.first[static_cast<std::size_t>(lane) + 1] - first;
  float highest = -INFINITY;
  float total = 0.0F;
  float sum = 0.0F;
  for (int p = 0; p < pages; ++p) {
    auto const page = static_cast<std::size_t>(lists.pages[static_cast<std::size_t>(first + p)]);
    int const rows = p + 1 < pages ? 16 : lists.last_page_rows[static_cast<std::size_t>(lane)];
    for (int row = 0; row < rows; ++row) {
      std::size_t const at = page * view.page_elements + static_cast<std::size_t>(row * dim + d);
      parts[d] = q[head * dim + d] * to_float(view.k[at]) * scale;
      __syncthreads();
      float logit = 0.0F;
      for (int i = 0; i < dim; ++i) {
        logit += parts[i];
      }
      __syncthreads();
      float const now = fmaxf(highest, logit);
      float const old = expf(highest - now);
      float const weight = expf(logit - now);
      sum = sum * old + weight * to_float(view.v[at]);
      total = total * old + weight;
      highest = now;
    }
  }
  out[head * dim + d] = total > 0.0F ? sum / total : 0.0F;
  if (d == 0) {
    lse[head] = highest + logf(total);
  }
}

/// @brief Steps of two sequences, through one cache's attention and, in another that is the same,
/// through the kernel above over its pages: the same outputs, and the same rows at the end.
/// @return the first sequence's report
template <class Cache>
StepReport attend_beside(Cache& ours, Cache& theirs, int steps) {
  constexpr std::size_t group = small.query_heads / small.kv_heads;
  Stream const stream;
  std::array const first{ours.open(stream), ours.open(stream)};
  std::array const second{theirs.open(stream), theirs.open(stream)};
  std::vector<Model> models;
  for (unsigned i = 0; i < 4; ++i) {
    models.emplace_back(small, 20 + i);
  }
  std::size_t const lanes = 2 * 2;
  DeviceArray<std::int32_t> const starts(lanes + 1);
  DeviceArray<std::int32_t> const pages(lanes * 16);
  DeviceArray<std::int32_t> const last(lanes);
  PageLists const lists{starts.span(), pages.span(), last.span()};
  float largest = 0.0F;
  float worst = 0.0F;
  for (int token = 0; token < steps; ++token) {
    ours.begin_async(first, stream);
    theirs.begin_async(second, stream);
    for (int layer = 0; layer < 2; ++layer) {
      std::vector<float> q, k, v;
      for (std::size_t sequence = 0; sequence < 2; ++sequence) {
        std::vector<float> one_q, one_k, one_v;
        models[sequence * 2 + static_cast<std::size_t>(layer)].step(one_q, one_k, one_v);
        q.insert(q.end(), one_q.begin(), one_q.end());
        k.insert(k.end(), one_k.begin(), one_k.end());
        v.insert(v.end(), one_v.begin(), one_v.end());
      }
      auto const device_q = upload(q);
      auto const device_k = upload(k);
      auto const device_v = upload(v);
      DeviceArray<float> const expected(q.size());
      ours.template attend_async<float>(layer, device_q, device_k, device_v, expected, stream);
      theirs.template recall_async<float>(layer, device_q, device_k, device_v, stream);
      theirs.view_async(lists, stream);
      DeviceArray<float> const exact(q.size());
      DeviceArray<float> const exact_lse(lanes * group);
      foreign_attend<<<dim3(lanes, group), foreign_dim, 0, stream.get()>>>(
          theirs.view(), lists, device_q.data(), 1.0F / std::sqrt(static_cast<float>(foreign_dim)),
          exact.data(), exact_lse.data());
      check_launch("foreign_attend");
      if constexpr (requires { theirs.partial_async(exact.span(), exact_lse.span(), stream); }) {
        DeviceArray<float> const rest(q.size());
        DeviceArray<float> const rest_lse(lanes * group);
        theirs.partial_async(rest.span(), rest_lse.span(), stream);
        merge_async(exact.span(), exact_lse.span(), rest.span(), rest_lse.span(), exact.span(),
                    exact_lse.span(), stream);
      }
      auto const a = download(expected, stream);
      auto const b = download(exact, stream);
      for (std::size_t i = 0; i < a.size(); ++i) {
        largest = std::max(largest, std::fabs(a[i]));
        worst = std::max(worst, std::fabs(a[i] - b[i]));
      }
    }
    ours.advance_async(stream);
    theirs.advance_async(stream);
  }
  stream.wait();
  CHECK(largest > 0.1F);
  CHECK(worst < 2e-5F * std::max(largest, 1.0F));
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(ours.report(first[i]).rows == theirs.report(second[i]).rows);
  }
  return ours.report(first[0]);
}

}  // namespace kvfreeze::gpu::test
