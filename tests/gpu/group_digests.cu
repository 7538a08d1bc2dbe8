#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/exact_keys.hpp>
#include <kvfreeze/digest/mean_key.hpp>
#include <kvfreeze/digest/partial_keys.hpp>
#include <kvfreeze/gpu/digest_scan.cuh>

#include <catch2/catch.hpp>

#include <gpu/scan_lanes.cuh>

using namespace kvfreeze;

TEMPLATE_TEST_CASE("A scan of groups' bounds and means gives the host's logits to the bit",
                   "[digest_scan]", BoxDigest<>, CuboidDigest<>, MeanKeyDigest<48>) {
  gpu::test::check_all_scans<TestType>();
}

TEMPLATE_TEST_CASE("A scan of keys, or of some channels, gives the host's logits to the bit",
                   "[digest_scan]", ExactKeys, PartialKeys<>, PartialKeys<37>) {
  gpu::test::check_all_scans<TestType>();
}

TEST_CASE("A scan of boxes is one launch, and moves what it must", "[digest_scan]") {
  gpu::test::check_scan_traffic<BoxDigest<>>(2.1);
}
