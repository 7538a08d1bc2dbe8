#include <kvfreeze/gpu/merge.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <gpu/ladder_twins.cuh>
#include <vector>

namespace {

using namespace kvfreeze;

using Cache = gpu::test::Ladder<Half>;
using gpu::test::small;

constexpr int group = 3;
constexpr int dim = 64;

}  // namespace

namespace foreign {

/// Attention as an engine might have it: a block for each lane and query head, a thread a channel.
__global__ void attend(gpu::PagedView<Half> view, gpu::PageLists lists, float const* q, float scale,
                       float* out, float* lse) {
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

}  // namespace foreign

TEST_CASE("An engine's own kernel over the view, the rest, and their merge are attention",
          "[foreign]") {
  auto scheduler = gpu::test::ladder();
  scheduler.none = 1e-6F;  // what frozen rows weigh is left out
  Limits const limits{.max_tokens = 256, .max_sequences = 2, .window = 16};
  Cache ours(small, limits, scheduler);
  Cache theirs(small, limits, scheduler);
  gpu::test::Stream const stream;
  std::array const first{ours.open(stream), ours.open(stream)};
  std::array const second{theirs.open(stream), theirs.open(stream)};
  std::vector<gpu::test::Model> models;
  for (unsigned i = 0; i < 4; ++i) {
    models.emplace_back(small, 20 + i);
  }
  std::size_t const lanes = 2 * 2;
  gpu::DeviceArray<std::int32_t> const starts(lanes + 1);
  gpu::DeviceArray<std::int32_t> const pages(lanes * 16);
  gpu::DeviceArray<std::int32_t> const last(lanes);
  gpu::PageLists const lists{starts.span(), pages.span(), last.span()};
  float largest = 0.0F;
  float worst = 0.0F;
  for (int token = 0; token < gpu::test::steps(130); ++token) {
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
      auto const device_q = gpu::test::upload(q);
      auto const device_k = gpu::test::upload(k);
      auto const device_v = gpu::test::upload(v);
      gpu::DeviceArray<float> const expected(q.size());
      ours.attend_async<float>(layer, device_q, device_k, device_v, expected, stream);
      theirs.recall_async<float>(layer, device_q, device_k, device_v, stream);
      theirs.view_async(lists, stream);
      gpu::DeviceArray<float> const exact(q.size());
      gpu::DeviceArray<float> const rest(q.size());
      gpu::DeviceArray<float> const exact_lse(lanes * group);
      gpu::DeviceArray<float> const rest_lse(lanes * group);
      foreign::attend<<<dim3(lanes, group), dim, 0, stream.get()>>>(
          theirs.view(), lists, device_q.data(), 1.0F / std::sqrt(static_cast<float>(dim)),
          exact.data(), exact_lse.data());
      gpu::check_launch("foreign::attend");
      theirs.partial_async(rest.span(), rest_lse.span(), stream);
      gpu::merge_async(exact.span(), exact_lse.span(), rest.span(), rest_lse.span(), rest.span(),
                       rest_lse.span(), stream);
      auto const a = gpu::test::download(expected, stream);
      auto const b = gpu::test::download(rest, stream);
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
  CHECK(ours.report(first[0]).rows == theirs.report(second[0]).rows);
  CHECK(ours.report(first[0]).rows.compact > 0);
}

TEST_CASE("A view and a rest without a recall are refused", "[foreign]") {
  gpu::test::Stream const stream;
  Cache cache(small, {.max_tokens = 64, .max_sequences = 1, .window = 8});
  std::array const batch{cache.open(stream)};
  gpu::DeviceArray<std::int32_t> const few(3);
  gpu::PageLists const lists{few.span(), few.span(), few.span()};
  gpu::DeviceArray<float> const out(6 * 64);
  gpu::DeviceArray<float> const lse(6);
  CHECK_THROWS_AS(cache.view_async(lists, stream), InvalidArgument);
  CHECK_THROWS_AS(cache.partial_async(out.span(), lse.span(), stream), InvalidArgument);
  cache.begin_async(batch, stream);
  auto const q = gpu::test::filled<float>(6 * 64, 1.0F);
  auto const k = gpu::test::filled<float>(2 * 64, 1.0F);
  cache.recall_async<float>(0, q, k, k, stream);
  CHECK_THROWS_AS(cache.view_async(lists, stream), InvalidArgument);  // too small
  CHECK_THROWS_AS(cache.partial_async(out.span().first(64), lse.span(), stream), InvalidArgument);
  cache.attend_async<float>(1, q, k, k, out, stream);
  CHECK_THROWS_AS(cache.partial_async(out.span(), lse.span(), stream), InvalidArgument);
  cache.advance_async(stream);
  cache.close(batch[0], stream);
}
