#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/encode_rows.cuh>
#include <kvfreeze/host/kernels/rotation.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <gpu/device.cuh>
#include <gpu/digest_data.cuh>
#include <iostream>
#include <type_traits>
#include <utility>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

namespace {

using Digest = NestedKeyCodes<1, 5>;

/// Values [rows][dim]: ordinary ones, zeros, outliers, and those whose scale is hard to hold.
std::vector<float> make_values(std::size_t rows, int dim, unsigned seed) {
  auto values = test::normal_numbers(rows * static_cast<std::size_t>(dim), seed);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::size_t const row = i / static_cast<std::size_t>(dim);
    float& x = values[i];
    x = row % 7 == 1                  ? 0.0F
        : row % 7 == 2                ? x * 1e-6F
        : row % 7 == 3 && i % 11 == 0 ? x * 50.0F
                                      : x;
  }
  return values;
}

/// Rows of a lane, and a pool's slots for their codes.
template <int ValueBits, int Residual, class T>
struct Rows {
  int dim;
  std::size_t count;
  std::vector<T> keys;
  std::vector<T> values;
  std::vector<float> means;
  std::vector<std::byte> group;
  DeviceArray<T> device_keys;
  DeviceArray<T> device_values;
  DeviceArray<float> device_means;
  DeviceArray<std::byte> device_group;
  DeviceArray<std::byte> residuals;
  DeviceArray<std::byte> codes;
  DeviceArray<BFloat16> scales;

  Rows(int channels, std::size_t rows, bool centred, unsigned seed)
      : dim(channels),
        count(rows),
        keys(test::narrowed<T>(test::make_keys(static_cast<int>(rows), dim, seed % 3))),
        values(test::narrowed<T>(make_values(rows, dim, seed + 1))),
        means(centred ? test::normal_numbers(static_cast<std::size_t>(dim), seed + 2, 0.2F)
                      : std::vector<float>(static_cast<std::size_t>(dim), 0.0F)),
        group(test::make_groups<Digest>(1, dim, seed % 3)),
        device_keys(test::upload(keys)),
        device_values(test::upload(values)),
        device_means(test::upload(means)),
        device_group(test::upload(group)),
        residuals(test::filled((rows + 1) * residual_bytes(), std::byte{0xA5})),
        codes(test::filled((rows + 1) * value_bytes(), std::byte{0xA5})),
        scales(test::filled(rows + 1, BFloat16{0x1234})) {}

  [[nodiscard]] std::size_t residual_bytes() const {
    if constexpr (Residual > 0) {
      return host::residual_bytes<Residual>(dim);
    } else {
      return 16;
    }
  }

  [[nodiscard]] std::size_t value_bytes() const { return host::value_code_bytes<ValueBits>(dim); }

  /// Some rows are left out.
  [[nodiscard]] static bool is_coded(std::size_t row) { return row % 5 != 4; }

  [[nodiscard]] std::vector<CodeJob<T>> jobs() const {
    std::vector<CodeJob<T>> out(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (is_coded(i)) {
        out[i].key = device_keys.data() + i * static_cast<std::size_t>(dim);
        out[i].value = device_values.data() + i * static_cast<std::size_t>(dim);
        out[i].means = device_means.data();
        out[i].group = device_group.data();
        out[i].residual = residuals.data() + i * residual_bytes();
        out[i].values = codes.data() + i * value_bytes();
        out[i].scale = scales.data() + i;
      }
    }
    return out;
  }

  struct Coded {
    std::vector<std::byte> residuals;
    std::vector<std::byte> codes;
    std::vector<BFloat16> scales;
  };

  /// What the host makes of the first `done` rows.
  [[nodiscard]] Coded expected(std::size_t done) const {
    Coded out{std::vector<std::byte>(residuals.size(), std::byte{0xA5}),
              std::vector<std::byte>(codes.size(), std::byte{0xA5}),
              std::vector<BFloat16>(scales.size(), BFloat16{0x1234})};
    auto const width = static_cast<std::size_t>(dim);
    for (std::size_t i = 0; i < done; ++i) {
      if (!is_coded(i)) {
        continue;
      }
      auto const at = static_cast<std::ptrdiff_t>(i * width);
      auto const end = at + dim;
      if constexpr (Residual > 0) {
        auto const key = test::widened(std::vector<T>(keys.begin() + at, keys.begin() + end));
        Digest::encode_residual<Residual>(key.data(), dim, group.data(),
                                          out.residuals.data() + i * residual_bytes());
      }
      auto value = test::widened(std::vector<T>(values.begin() + at, values.begin() + end));
      host::subtract(value.data(), means.data(), dim);
      host::rotate(value.data(), dim);
      out.scales[i] =
          host::encode_values<ValueBits>(value.data(), dim, out.codes.data() + i * value_bytes());
    }
    return out;
  }

  void check(test::Stream const& stream, std::size_t done) const {
    auto const wanted = expected(done);
    CHECK(test::count_different(test::download(residuals, stream), wanted.residuals) == 0);
    CHECK(test::count_different(test::download(codes, stream), wanted.codes) == 0);
    CHECK(test::count_different(test::download(scales, stream), wanted.scales) == 0);
  }
};

template <int ValueBits, int Residual, class T>
void check_rows(int dim, std::size_t count, bool centred, unsigned seed) {
  CAPTURE(ValueBits, Residual, dim, count, centred);
  test::Stream const stream;
  Rows<ValueBits, Residual, T> const rows(dim, count, centred, seed);
  auto const jobs = test::upload(rows.jobs());
  encode_rows<Digest, ValueBits, Residual, T>(jobs.span(), dim, stream);
  rows.check(stream, count);
}

__global__ void rotate_kernel(float* v, int dim) {
  int const lane = static_cast<int>(threadIdx.x % 16);
  for (int first = 0; first < dim; first += 64) {
    float x[4];
    for (int i = 0; i < 4; ++i) {
      int const c = first + 16 * i + lane;
      x[i] = c < dim ? v[c] : 0.0F;
    }
    gpu::detail::rotate_64(x, dim - first, lane);
    for (int i = 0; i < 4; ++i) {
      int const c = first + 16 * i + lane;
      if (threadIdx.x < 16 && c < dim) {
        v[c] = x[i];
      }
    }
  }
}

template <int Bits>
__global__ void decode_kernel(std::byte const* codes, BFloat16 const* scales, int dim, float* out) {
  __shared__ gpu::detail::ValueTables<Bits> tables;
  tables.fill(static_cast<int>(threadIdx.x));
  __syncthreads();
  int const row = static_cast<int>(blockIdx.x);
  int const lane = static_cast<int>(threadIdx.x % 16);
  for (int block = static_cast<int>(threadIdx.x / 16); 64 * block < dim; block += 2) {
    float level[4];
    gpu::detail::decode_levels<Bits>(
        tables, codes + static_cast<std::size_t>(row) * host::value_code_bytes<Bits>(dim), block,
        lane, level);
    for (int v = 0; v < 4; ++v) {
      int const c = 64 * block + 16 * v + lane;
      if (c < dim) {
        out[row * dim + c] = __fmul_rn(level[v], to_float(scales[row]));
      }
    }
  }
}

template <int Bits>
void check_decoding(int dim) {
  CAPTURE(Bits, dim);
  test::Stream const stream;
  constexpr std::size_t count = 20;
  auto const width = static_cast<std::size_t>(dim);
  auto const values = make_values(count, dim, 3);
  std::size_t const bytes = host::value_code_bytes<Bits>(dim);
  std::vector<std::byte> codes(count * bytes);
  std::vector<BFloat16> scales(count);
  std::vector<float> decoded(count * width);
  for (std::size_t i = 0; i < count; ++i) {
    scales[i] = host::encode_values<Bits>(values.data() + i * width, dim, codes.data() + i * bytes);
    host::decode_values<Bits>(codes.data() + i * bytes, scales[i], dim, decoded.data() + i * width);
  }
  auto const device_codes = test::upload(codes);
  auto const device_scales = test::upload(scales);
  DeviceArray<float> const out(decoded.size());
  decode_kernel<Bits>
      <<<count, 32, 0, stream.get()>>>(device_codes.data(), device_scales.data(), dim, out.data());
  check_launch("decode_kernel");
  CHECK(test::count_different(test::download(out, stream), decoded) == 0);
}

}  // namespace

TEST_CASE("Rows coded on the device have the host's bytes", "[encode]") {
  for (int const dim : {8, 40, 64, 96, 128, 256, 512}) {
    check_rows<2, 2, Half>(dim, 33, true, 1);
    check_rows<4, 4, Half>(dim, 20, true, 2);
    check_rows<8, 4, Half>(dim, 9, false, 3);
  }
  for (int const dim : {48, 80, 112, 120, 320}) {  // blocks of 32 and 16 channels, and 8 left over
    check_rows<4, 0, float>(dim, 8, true, 4);
  }
  check_rows<8, 0, BFloat16>(128, 40, true, 5);
  check_rows<2, 2, BFloat16>(128, 1, true, 6);
}

TEST_CASE("The rotation is the host's to the bit", "[encode]") {
  test::Stream const stream;
  for (int dim = 8; dim <= 512; dim += 8) {
    CAPTURE(dim);
    auto v = test::normal_numbers(static_cast<std::size_t>(dim), static_cast<unsigned>(dim));
    auto const device = test::upload(v);
    rotate_kernel<<<1, 32, 0, stream.get()>>>(device.data(), dim);
    check_launch("rotate_kernel");
    host::rotate(v.data(), dim);
    CHECK(test::count_different(test::download(device, stream), v) == 0);
  }
}

TEST_CASE("Scales that are hard to hold are the host's", "[encode]") {
  test::Stream const stream;
  Rows<8, 0, float> rows(64, 4, false, 7);
  for (std::size_t i = 0; i < rows.values.size(); ++i) {
    constexpr float sizes[] = {0x1p-149F, 0x1p-130F, 0x1p-124F, 0x1p120F};
    rows.values[i] = i % 3 == 0 ? sizes[i / 64] : -sizes[i / 64];
  }
  rows.device_values = test::upload(rows.values);
  auto const jobs = test::upload(rows.jobs());
  encode_rows<Digest, 8, 0, float>(jobs.span(), 64, stream);
  rows.check(stream, 4);
}

TEST_CASE("Only as many rows are coded as the device says", "[encode]") {
  test::Stream const stream;
  Rows<4, 4, Half> const rows(64, 40, true, 8);
  auto const jobs = test::upload(rows.jobs());
  for (std::uint32_t const count : {0U, 7U, 30U}) {
    auto const device_count = test::filled<std::uint32_t>(1, count);
    encode_rows_async<Digest, 4, 4, Half>(jobs.span(), device_count.data(), 64, stream);
    rows.check(stream, count);
  }
  auto const too_many = test::filled<std::uint32_t>(1, 1000);
  encode_rows_async<Digest, 4, 4, Half>(jobs.span(), too_many.data(), 64, stream);
  rows.check(stream, 40);
  CHECK_NOTHROW(encode_rows<Digest, 4, 4, Half>(jobs.span().first(0), 64, stream));
  CHECK_THROWS_AS((encode_rows<Digest, 4, 4, Half>(jobs.span(), 0, stream)), InvalidArgument);
}

TEST_CASE("V codes are decoded in registers as on the host", "[decode]") {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    check_decoding<2>(dim);
    check_decoding<4>(dim);
    check_decoding<8>(dim);
  }
}

TEST_CASE("Coding rows is one launch, and moves what it must", "[encode]") {
  test::Stream const stream;
  constexpr int dim = 128;
  constexpr std::size_t count = 512;
  Rows<4, 4, Half> const rows(dim, count, true, 9);
  auto jobs = rows.jobs();
  std::erase_if(jobs, [](CodeJob<Half> const& job) { return job.values == nullptr; });
  auto const device_jobs = test::upload(jobs);
  auto const stats = test::count(stream, [&] {
    encode_rows_async<Digest, 4, 4, Half>(device_jobs.span(), nullptr, dim, stream);
  });
  if (!stats) {
    WARN("nobody counts on this device");
    return;
  }
  CHECK(stats->kernel_launches == 1);
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs == 0);
  auto const done = static_cast<double>(jobs.size());
  std::cout << "a row of " << 2 * dim * sizeof(Half) << " bytes, K and V, loads "
            << static_cast<double>(stats->global_load_sectors) * 32.0 / done << " and stores "
            << static_cast<double>(stats->global_store_sectors) * 32.0 / done
            << " bytes in sectors; sector efficiency " << test::sector_efficiency(*stats) << ", "
            << static_cast<double>(stats->warp_instructions) / done << " warp instructions\n";
  CHECK(test::sector_efficiency(*stats) > 0.9);
}
