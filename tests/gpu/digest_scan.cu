#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/gpu/digest_scan.cuh>
#include <kvfreeze/host/digest_scan.hpp>

#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/device.cuh>
#include <gpu/digest_data.cuh>
#include <gpu/scan_lanes.cuh>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

TEMPLATE_TEST_CASE("A scan of key codes gives the host's logits to the bit", "[digest_scan]",
                   KeyCodes<2>, (KeyCodes<3, 128>), KeyCodes<4>, KeyCodes<8>) {
  test::check_all_scans<TestType>();
}

TEST_CASE("A scan of one lane is the host's, and refuses what the host refuses", "[digest_scan]") {
  using Digest = KeyCodes<4>;
  test::Stream const stream;
  auto const groups = test::make_groups<Digest>(3, 64, 1);
  auto const query = test::make_queries(2, 64, 2);
  std::vector<float> expected(400, test::untouched);
  CHECK(host::digest_scan<Digest>({query.data(), 2, 64}, groups, expected, 200) == 192);
  auto const device_groups = test::upload(groups);
  auto const device_query = test::upload(query);
  auto const logits = test::filled(400, test::untouched);
  DigestQuery const q{device_query.data(), 2, 64};
  CHECK(digest_scan<Digest>(q, device_groups, logits, 200, stream) == 192);
  CHECK(test::count_different(test::download(logits, stream), expected) == 0);
  CHECK(digest_scan<Digest>(q, device_groups.span().first(0), logits, 0, stream) == 0);

  auto const scan = [&](DigestQuery const& some, std::size_t bytes, std::size_t size,
                        std::size_t stride) {
    digest_scan<Digest>(some, device_groups.span().first(bytes), logits.span().first(size), stride,
                        stream);
  };
  std::size_t const bytes = groups.size();
  CHECK_THROWS_AS(scan(q, bytes, 391, 200), InvalidArgument);
  CHECK_NOTHROW(scan(q, bytes, 392, 200));
  CHECK_THROWS_AS(scan(q, bytes, 400, 191), InvalidArgument);
  CHECK_THROWS_AS(scan(q, bytes - 64, 400, 200), InvalidArgument);
  CHECK_THROWS_AS(scan({device_query.data(), 0, 64}, bytes, 400, 200), InvalidArgument);
  CHECK_THROWS_AS(scan({device_query.data(), 2, 60}, bytes, 400, 200), InvalidArgument);
  CHECK_THROWS_AS(scan({nullptr, 2, 64}, bytes, 400, 200), InvalidArgument);
  CHECK_THROWS_AS(scan({device_query.data() + 1, 1, 64}, bytes, 400, 200), InvalidArgument);
  CHECK_THROWS_AS(
      digest_scan<Digest>(q, device_groups.span().subspan(8, 2 * bytes / 3), logits, 200, stream),
      InvalidArgument);
  Span<DigestLane const> const none;
  CHECK_NOTHROW(digest_scan_async<Digest>(none, 1, 64, 10, stream));
  CHECK_THROWS_AS(digest_scan_async<Digest>(none, 65, 64, 10, stream), InvalidArgument);
  CHECK_THROWS_AS(digest_scan_async<Digest>(none, 1, 520, 10, stream), InvalidArgument);
}

TEST_CASE("A captured scan is replayed with other lanes and queries", "[digest_scan]") {
  using Digest = KeyCodes<4>;
  test::Stream const stream;
  std::vector<test::ScanLane<Digest>> const lanes = [] {
    std::vector<test::ScanLane<Digest>> out;
    for (int const groups : {3, 6, 8, 2}) {
      out.emplace_back(4, 128, groups, static_cast<unsigned>(groups));
    }
    return out;
  }();
  DeviceArray<DigestLane> const descriptors(2);
  auto const fill = [&](std::size_t first) {
    std::vector<DigestLane> const two{lanes[first].descriptor(), lanes[first + 1].descriptor()};
    check(cudaMemcpyAsync(descriptors.data(), two.data(), descriptors.size_bytes(),
                          cudaMemcpyHostToDevice, stream.get()),
          "cudaMemcpyAsync");
    stream.wait();
  };
  fill(0);
  test::Graph const graph(
      stream, [&] { digest_scan_async<Digest>(descriptors.span(), 4, 128, 8, stream); });
  for (std::size_t const first : {0U, 2U}) {
    fill(first);
    graph.launch(stream);
    for (std::size_t i = first; i < first + 2; ++i) {
      CHECK(test::count_different(test::download(lanes[i].device_logits, stream),
                                  lanes[i].expected()) == 0);
    }
  }
}

TEST_CASE("A scan of key codes is one launch, and moves what it must", "[digest_scan]") {
  test::check_scan_traffic<KeyCodes<4>>(1.15);
}
