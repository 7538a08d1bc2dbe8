#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/mean_key.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace {

struct Group {
  std::vector<float> keys, queries, logits;
  std::vector<std::byte> bytes;

  template <class Digest>
  static Group scanned(int dim, int heads) {
    std::mt19937 random(static_cast<unsigned>(dim));
    std::normal_distribution<float> normal;
    Group g;
    g.keys.resize(static_cast<std::size_t>(Digest::group_rows * dim));
    g.queries.resize(static_cast<std::size_t>(heads * dim));
    for (float& x : g.keys) {
      x = normal(random);
    }
    for (float& x : g.queries) {
      x = normal(random);
    }
    g.bytes.resize(Digest::bytes(dim));
    g.logits.resize(static_cast<std::size_t>(heads * Digest::group_rows));
    Digest::encode(g.keys.data(), dim, g.bytes.data());
    Digest::scan({g.queries.data(), heads, dim}, g.bytes.data(), g.logits.data(),
                 Digest::group_rows);
    return g;
  }

  [[nodiscard]] double dot(int head, int row, int dim) const {
    double total = 0.0;
    for (int c = 0; c < dim; ++c) {
      total += static_cast<double>(queries[static_cast<std::size_t>(head * dim + c)]) *
               static_cast<double>(keys[static_cast<std::size_t>(row * dim + c)]);
    }
    return total;
  }

  [[nodiscard]] double mean_dot(int head, int rows, int dim) const {
    double total = 0.0;
    for (int r = 0; r < rows; ++r) {
      total += dot(head, r, dim);
    }
    return total / rows;
  }

  [[nodiscard]] double bound(int head, int rows, int dim) const {
    double total = 0.0;
    for (int c = 0; c < dim; ++c) {
      double best = -1e300;
      for (int r = 0; r < rows; ++r) {
        best =
            std::max(best, static_cast<double>(queries[static_cast<std::size_t>(head * dim + c)]) *
                               static_cast<double>(keys[static_cast<std::size_t>(r * dim + c)]));
      }
      total += best;
    }
    return total;
  }
};

}  // namespace

TEST_CASE("A box bounds every row of its group, tightly") {
  for (int dim = 8; dim <= 264; dim += 8) {
    auto const g = Group::scanned<kvfreeze::BoxDigest<>>(dim, 3);
    for (int h = 0; h < 3; ++h) {
      double const bound = g.bound(h, 16, dim);
      for (int r = 0; r < 16; ++r) {
        double const got = static_cast<double>(g.logits[static_cast<std::size_t>(h * 16 + r)]);
        REQUIRE(got >= g.dot(h, r, dim));
        REQUIRE(got >= bound - 1e-4);
        REQUIRE(got <= bound + 0.004 * dim);
      }
    }
  }
}

TEST_CASE("A mean key gives the mean logit") {
  for (int dim = 8; dim <= 264; dim += 8) {
    auto const g = Group::scanned<kvfreeze::MeanKeyDigest<32>>(dim, 2);
    for (int h = 0; h < 2; ++h) {
      for (int r = 0; r < 32; ++r) {
        REQUIRE(static_cast<double>(g.logits[static_cast<std::size_t>(h * 32 + r)]) ==
                Approx(g.mean_dot(h, 32, dim)).margin(0.001 * dim));
      }
    }
  }
}

TEST_CASE("A cuboid is halfway between mean and bound") {
  for (int dim = 8; dim <= 264; dim += 8) {
    auto const g = Group::scanned<kvfreeze::CuboidDigest<>>(dim, 2);
    for (int h = 0; h < 2; ++h) {
      double const expected = (g.mean_dot(h, 32, dim) + g.bound(h, 32, dim)) / 2.0;
      for (int r = 0; r < 32; ++r) {
        REQUIRE(static_cast<double>(g.logits[static_cast<std::size_t>(h * 32 + r)]) ==
                Approx(expected).margin(0.004 * dim));
      }
    }
  }
}

TEST_CASE("Bounds stay finite beyond Half") {
  std::vector<float> keys(16 * 8, 1e9F);
  std::vector<std::byte> group(kvfreeze::BoxDigest<>::bytes(8));
  kvfreeze::BoxDigest<>::encode(keys.data(), 8, group.data());
  std::vector<float> const q(8, 0.0F);
  std::vector<float> logits(16, 1.0F);
  kvfreeze::BoxDigest<>::scan({q.data(), 1, 8}, group.data(), logits.data(), 16);
  CHECK(logits[0] == 0.0F);
}
