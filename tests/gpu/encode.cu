#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/exact_keys.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/mean_key.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/digest/partial_keys.hpp>
#include <kvfreeze/gpu/encode.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/digest_data.cuh>
#include <iostream>
#include <type_traits>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

namespace {

constexpr std::size_t guard = 64;  // bytes behind a group that must stay

/// What a job's importance is.
enum class Weights { none, unknown, known };

/// A job on the host and on the device.
template <class Digest, class T>
struct Job {
  int dim;
  std::ptrdiff_t stride;
  std::vector<T> keys;
  std::vector<T> values;
  std::vector<std::uint32_t> rows;  // empty: in order
  std::vector<float> importance;
  Weights weights;
  DeviceArray<T> device_keys;
  DeviceArray<T> device_values;
  DeviceArray<std::uint32_t> device_rows;
  DeviceArray<float> device_importance;
  DeviceArray<std::byte> device_group;
  DeviceArray<float> device_means;

  Job(int channels, unsigned seed)
      : dim(channels),
        stride(dim + (seed % 2 == 0 ? 0 : 24)),
        keys(strided(test::make_keys(rows_held(seed), dim, seed))),
        values(strided(
            test::normal_numbers(static_cast<std::size_t>(rows_held(seed) * dim), seed + 9))),
        importance(seed % 3 == 1 ? std::vector<float>(static_cast<std::size_t>(dim), 0.0F)
                                 : test::make_importance(dim, seed)),
        weights(static_cast<Weights>(seed % 3)),
        device_keys(test::upload(keys)),
        device_values(test::upload(values)),
        device_importance(test::upload(importance)),
        device_group(test::filled(Digest::bytes(dim) + guard, std::byte{0xA5})),
        device_means(test::filled(static_cast<std::size_t>(dim), -1.0F)) {
    if (seed % 4 >= 2) {
      for (int i = 0; i < Digest::group_rows; ++i) {
        rows.push_back(static_cast<std::uint32_t>(i * 5 % rows_held(seed)));
      }
      rows[3] = rows[2];  // a row that is gone
    }
    device_rows = test::upload(rows);
  }

  static int rows_held(unsigned seed) { return Digest::group_rows + (seed % 4 >= 2 ? 7 : 0); }

  [[nodiscard]] bool notes_means() const { return weights == Weights::unknown; }

  [[nodiscard]] EncodeJob<T> descriptor() const {
    EncodeJob<T> job;
    job.keys = device_keys.data();
    job.values = device_values.data();
    job.stride = stride;
    job.rows = rows.empty() ? nullptr : device_rows.data();
    job.importance = weights == Weights::none ? nullptr : device_importance.data();
    job.group = device_group.data();
    job.means = notes_means() ? device_means.data() : nullptr;
    return job;
  }

  [[nodiscard]] std::vector<std::byte> expected_group() const {
    auto group = test::encoded<Digest>(
        gathered(keys), weights == Weights::known ? importance.data() : nullptr, dim);
    group.resize(group.size() + guard, std::byte{0xA5});
    return group;
  }

  [[nodiscard]] std::vector<float> expected_means() const {
    std::vector<float> means(static_cast<std::size_t>(dim), notes_means() ? 0.0F : -1.0F);
    if (notes_means()) {
      auto const floats = gathered(values);
      for (std::size_t i = 0; i < floats.size(); ++i) {
        means[i % means.size()] += floats[i];
      }
      for (float& mean : means) {
        mean *= 1.0F / static_cast<float>(Digest::group_rows);
      }
    }
    return means;
  }

 private:
  /// Rows `stride` apart, NaN between them.
  [[nodiscard]] std::vector<T> strided(std::vector<float> const& packed) const {
    auto const width = static_cast<std::size_t>(dim);
    auto const step = static_cast<std::size_t>(stride);
    std::vector<float> out(packed.size() / width * step, NAN);
    for (std::size_t i = 0; i < packed.size(); ++i) {
      float const limit = std::is_same_v<T, Half> ? 65504.0F : 1e30F;
      out[i / width * step + i % width] = std::clamp(packed[i], -limit, limit);
    }
    return test::narrowed<T>(out);
  }

  /// The rows of the group, one behind another.
  [[nodiscard]] std::vector<float> gathered(std::vector<T> const& from) const {
    std::vector<float> out;
    for (int i = 0; i < Digest::group_rows; ++i) {
      auto const row = static_cast<std::ptrdiff_t>(
          rows.empty() ? static_cast<std::uint32_t>(i) : rows[static_cast<std::size_t>(i)]);
      for (int c = 0; c < dim; ++c) {
        out.push_back(to_float(from[static_cast<std::size_t>(row * stride + c)]));
      }
    }
    return out;
  }
};

template <class Digest, class T>
void check_batch(int dim) {
  CAPTURE(dim, Digest::group_rows, sizeof(T));
  test::Stream const stream;
  std::vector<Job<Digest, T>> jobs;
  std::vector<EncodeJob<T>> descriptors;
  for (unsigned seed = 0; seed < 2 * test::key_kinds; ++seed) {
    jobs.emplace_back(dim, seed);
    descriptors.push_back(jobs.back().descriptor());
    descriptors.emplace_back();  // a lane that has nothing to do
  }
  auto const device_jobs = test::upload(descriptors);
  encode_async<Digest, T>(device_jobs.span(), dim, stream);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    CAPTURE(i);
    CHECK(test::count_different(test::download(jobs[i].device_group, stream),
                                jobs[i].expected_group()) == 0);
    CHECK(test::count_different(test::download(jobs[i].device_means, stream),
                                jobs[i].expected_means()) == 0);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("A group made on the device has the host's bytes", "[encode]", KeyCodes<2>,
                   (KeyCodes<3, 128>), KeyCodes<8>, (NestedKeyCodes<1, 5>),
                   (NestedKeyCodes<4, 6, 128>), BoxDigest<>, CuboidDigest<>, MeanKeyDigest<48>,
                   ExactKeys, PartialKeys<>, PartialKeys<37>) {
  for (int const dim : {64, 96, 128, 256}) {
    check_batch<TestType, Half>(dim);
  }
  check_batch<TestType, Half>(8);
  check_batch<TestType, Half>(40);
  check_batch<TestType, Half>(512);
}

TEST_CASE("Groups are made of any element type", "[encode]") {
  for (int const dim : {64, 96, 256}) {
    check_batch<NestedKeyCodes<1, 5>, BFloat16>(dim);
    check_batch<NestedKeyCodes<1, 5>, float>(dim);
    check_batch<KeyCodes<4>, float>(dim);
    check_batch<BoxDigest<>, BFloat16>(dim);
  }
}

TEST_CASE("Encoding refuses what it cannot do", "[encode]") {
  using Digest = KeyCodes<4>;
  test::Stream const stream;
  Job<Digest, float> const job(64, 0);
  auto const jobs = test::upload(std::vector<EncodeJob<float>>{job.descriptor()});
  encode<Digest, float>(jobs.span(), 64, stream);
  CHECK(test::download(job.device_group, stream) == job.expected_group());
  CHECK_THROWS_AS((encode<Digest, float>(jobs.span(), 60, stream)), InvalidArgument);
  CHECK_THROWS_AS((encode<Digest, float>(jobs.span(), 520, stream)), InvalidArgument);
  CHECK_NOTHROW(encode<Digest, float>(jobs.span().first(0), 64, stream));
}

TEST_CASE("Captured encoding is replayed with other jobs", "[encode]") {
  using Digest = NestedKeyCodes<1, 5>;
  test::Stream const stream;
  Job<Digest, Half> const first(128, 1);
  Job<Digest, Half> const second(128, 2);
  DeviceArray<EncodeJob<Half>> const jobs(1);
  auto const fill = [&](Job<Digest, Half> const& job) {
    auto const descriptor = job.descriptor();
    check(cudaMemcpyAsync(jobs.data(), &descriptor, jobs.size_bytes(), cudaMemcpyHostToDevice,
                          stream.get()),
          "cudaMemcpyAsync");
    stream.wait();
  };
  fill(first);
  test::Graph const graph(stream, [&] { encode_async<Digest, Half>(jobs.span(), 128, stream); });
  for (auto const* job : {&first, &second}) {
    fill(*job);
    graph.launch(stream);
    CHECK(test::download(job->device_group, stream) == job->expected_group());
  }
}

TEST_CASE("Encoding is one launch, and moves what it must", "[encode]") {
  using Digest = NestedKeyCodes<1, 5>;
  test::Stream const stream;
  constexpr int dim = 128;
  std::vector<Job<Digest, Half>> jobs;
  std::vector<EncodeJob<Half>> descriptors;
  for (unsigned i = 0; i < 8; ++i) {
    jobs.emplace_back(dim, 0);
    descriptors.push_back(jobs.back().descriptor());
  }
  auto const device_jobs = test::upload(descriptors);
  auto const stats =
      test::count(stream, [&] { encode_async<Digest, Half>(device_jobs.span(), dim, stream); });
  if (!stats) {
    WARN("nobody counts on this device");
    return;
  }
  CHECK(stats->kernel_launches == 1);
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs == 0);
  double const rows = 8.0 * Digest::group_rows;
  std::cout << "a row of " << dim * sizeof(Half) << " bytes loads "
            << static_cast<double>(stats->global_load_sectors) * 32.0 / rows << " and stores "
            << static_cast<double>(stats->global_store_sectors) * 32.0 / rows
            << " bytes in sectors; sector efficiency " << test::sector_efficiency(*stats) << ", "
            << static_cast<double>(stats->warp_instructions) / rows << " warp instructions\n";
  CHECK(test::sector_efficiency(*stats) > 0.9);
}
