// A recording without a model, for the tests: keys of the past are looked for by the queries, so
// that few rows have most of the mass.
//
//   random_recording FILE ROWS

#include "../llama/recording_file.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>

namespace {

llama::Recording make(int rows) {
  llama::Recording r({.layers = 2, .query_heads = 6, .kv_heads = 2, .head_dim = 64}, rows, rows,
                     500);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (kvfreeze::Half& x : r.keys) {
    x = kvfreeze::from_float<kvfreeze::Half>(1.5F * normal(random));
  }
  for (kvfreeze::Half& x : r.values) {
    x = kvfreeze::from_float<kvfreeze::Half>(normal(random) + 0.25F);
  }
  for (kvfreeze::BFloat16& x : r.logit_values) {
    x = kvfreeze::from_float<kvfreeze::BFloat16>(2.0F * normal(random));
  }
  int const group = r.shape.query_heads / r.shape.kv_heads;
  for (int row = 0; row < rows; ++row) {
    for (int layer = 0; layer < r.shape.layers; ++layer) {
      float* q = r.query_values.data() + r.query_at(row, layer);
      for (int head = 0; head < r.shape.query_heads; ++head) {
        int const lane = layer * r.shape.kv_heads + head / group;
        auto const wanted = r.key(lane, std::uniform_int_distribution<int>(0, row)(random));
        for (kvfreeze::Half const x : wanted) {
          *q++ = 0.6F * kvfreeze::to_float(x) + 0.5F * normal(random);
        }
      }
    }
  }
  return r;
}

}  // namespace

int main(int argc, char** argv) try {
  int const rows = argc == 3 ? std::atoi(argv[2]) : 0;
  if (rows < 1) {
    std::fputs("random_recording FILE ROWS\n", stderr);
    return 2;
  }
  llama::write_recording(make(rows), argv[1]);
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
