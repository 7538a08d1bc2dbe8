#include <kvfreeze/host/kernels/folded_queries.hpp>

#include "key_code_data.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace host = kvfreeze::host;

namespace {

void check_fold(int dim, int heads) {
  CAPTURE(dim, heads);
  int const groups = 3;
  auto q = normal_numbers(static_cast<std::size_t>(heads * dim), 3, 0.4F);
  if (heads > 1) {
    std::fill_n(q.begin() + dim, dim, 0.0F);
  }
  FoldedMemory folded(groups, heads, dim);
  CHECK(folded.view.scale_bytes(groups, heads) == folded.scales.size() * sizeof(host::FoldScale));
  for (int g = 0; g < groups; ++g) {
    CodedGroup<2> const coded(dim, static_cast<unsigned>(g + dim));
    host::fold_queries(q.data(), heads, dim, coded.minima.data(), coded.steps.data(), folded.view,
                       g);
    for (int h = 0; h < heads; ++h) {
      float most = 0.0F;
      double base = 0.0;
      for (int c = 0; c < dim; ++c) {
        auto const i = static_cast<std::size_t>(c);
        float const query = q[static_cast<std::size_t>(h * dim + c)];
        float const step = kvfreeze::to_float(coded.steps[i]);
        most = std::max(most, std::fabs(query * step));
        base +=
            static_cast<double>(query) * (static_cast<double>(kvfreeze::to_float(coded.minima[i])) +
                                          0.5 * static_cast<double>(step));
      }
      auto const at = static_cast<std::size_t>(g);
      host::FoldScale const& scale = folded.view.scale_of(at, h);
      std::int8_t const* const weights = folded.view.weights_of(at, h);
      REQUIRE(scale.unit == most / 127.0F);
      REQUIRE(static_cast<double>(scale.base) == Approx(base).margin(1e-4));
      std::int32_t sum = 0;
      for (int c = 0; c < host::FoldedQueries::padded(dim); ++c) {
        float weight = 0.0F;
        if (c < dim && most > 0.0F) {
          weight = q[static_cast<std::size_t>(h * dim + c)] *
                   kvfreeze::to_float(coded.steps[static_cast<std::size_t>(c)]) * (127.0F / most);
        }
        REQUIRE(static_cast<int>(weights[c]) == static_cast<int>(std::nearbyint(weight)));
        sum += weights[c];
      }
      REQUIRE(scale.sum == sum);
    }
  }
}

template <int Bits>
void check_scan(int dim, int heads) {
  CAPTURE(Bits, dim, heads);
  auto const q = normal_numbers(static_cast<std::size_t>(heads * dim), 5, 0.4F);
  CodedGroup<Bits> const coded(dim, static_cast<unsigned>(dim));
  FoldedMemory folded(2, heads, dim);
  host::fold_queries(q.data(), heads, dim, coded.minima.data(), coded.steps.data(), folded.view, 1);
  int const stride = 67;
  std::vector<float> logits(static_cast<std::size_t>(heads * stride), -5.0F);
  host::scan_folded<Bits>(folded.view, 1, coded.group.data(), 64, logits.data(), stride);
  std::vector<float> at_once(logits.size(), -5.0F);
  host::scan_key_codes<Bits>(q.data(), heads, dim, coded.group.data(), coded.minima.data(),
                             coded.steps.data(), 64, at_once.data(), stride);
  CHECK(logits == at_once);
  for (int h = 0; h < heads; ++h) {
    host::FoldScale const& scale = folded.view.scale_of(1, h);
    for (int r = 0; r < 64; ++r) {
      int dot = 0;
      for (int c = 0; c < dim; ++c) {
        dot += coded.codes[static_cast<std::size_t>(r * dim + c)] * folded.view.weights_of(1, h)[c];
      }
      REQUIRE(logits[static_cast<std::size_t>(h * stride + r)] ==
              std::fma(static_cast<float>(dot), scale.unit, scale.base));
    }
    REQUIRE(logits[static_cast<std::size_t>(h * stride + 64)] == -5.0F);
  }
}

}  // namespace

TEST_CASE("Folded queries are the scalar formula") {
  for (int const dim : {8, 40, 64, 72, 96, 128, 256}) {
    for (int const heads : {1, 2, 3, 4, 5, 9}) {
      check_fold(dim, heads);
    }
  }
}

TEMPLATE_TEST_CASE_SIG("A folded scan multiplies codes and weights exactly", "", ((int Bits), Bits),
                       2, 3, 4, 8) {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    for (int const heads : {1, 3, 5}) {
      check_scan<Bits>(dim, heads);
    }
  }
}
