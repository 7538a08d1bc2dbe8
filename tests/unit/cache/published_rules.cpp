// What the published rules keep of a prompt, against a plain computation in double precision.

#include <kvfreeze/published_presets.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;

constexpr Shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 16};
constexpr int tokens = 200;
constexpr int window = 8;
constexpr int capacity = 90;
constexpr int group = 2;
constexpr int dim = 16;

/// A prompt, and everything that rules ask of it.
struct Prompt {
  std::vector<float> q, k, v;

  explicit Prompt(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    auto const fill = [&](std::vector<float>& x, int n, float size) {
      x.resize(static_cast<std::size_t>(n));
      std::generate(x.begin(), x.end(), [&] {
        return to_float(from_float<Half>(size * normal(random)));  // as the cache stores it
      });
    };
    fill(q, tokens * shape.query_heads * dim, 1.5F);
    fill(k, tokens * shape.kv_heads * dim, 1.5F);
    fill(v, tokens * shape.kv_heads * dim, 1.0F);
    for (int head = 0; head < shape.kv_heads; ++head) {
      for (int d = 0; d < dim; ++d) {  // keys have a direction
        for (int i = 0; i < tokens; ++i) {
          float& x = k[static_cast<std::size_t>((i * shape.kv_heads + head) * dim + d)];
          x = to_float(from_float<Half>(x + (d % 3 == head ? 1.0F : 0.0F)));
        }
      }
    }
  }

  [[nodiscard]] double key(int row, int head, int d) const {
    return static_cast<double>(
        k[static_cast<std::size_t>((row * shape.kv_heads + head) * dim + d)]);
  }

  [[nodiscard]] double value(int row, int head, int d) const {
    return static_cast<double>(
        v[static_cast<std::size_t>((row * shape.kv_heads + head) * dim + d)]);
  }

  [[nodiscard]] double query(int row, int query_head, int d) const {
    return static_cast<double>(
        q[static_cast<std::size_t>((row * shape.query_heads + query_head) * dim + d)]);
  }

  /// Attention of one query head over the rows up to its own.
  [[nodiscard]] std::vector<double> attention(int row, int query_head) const {
    std::vector<double> weights;
    double sum = 0.0;
    for (int j = 0; j <= row; ++j) {
      double dot = 0.0;
      for (int d = 0; d < dim; ++d) {
        dot += query(row, query_head, d) * key(j, query_head / group, d);
      }
      weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(dim))));
      sum += weights.back();
    }
    for (double& weight : weights) {
      weight /= sum;
    }
    weights.resize(tokens, 0.0);
    return weights;
  }

  /// Mean over a KV head's query heads.
  [[nodiscard]] std::vector<double> mass(int row, int head) const {
    std::vector<double> mean(tokens, 0.0);
    for (int h = head * group; h < (head + 1) * group; ++h) {
      std::vector<double> const a = attention(row, h);
      for (int j = 0; j < tokens; ++j) {
        mean[static_cast<std::size_t>(j)] += a[static_cast<std::size_t>(j)] / group;
      }
    }
    return mean;
  }
};

std::vector<double> pooled(std::vector<double> const& scores, int width) {
  std::vector<double> result(scores.size(), 0.0);
  int const n = tokens - window;
  for (int i = 0; i < n; ++i) {
    for (int j = std::max(i - width / 2, 0); j <= std::min(i + width / 2, n - 1); ++j) {
      result[static_cast<std::size_t>(i)] += scores[static_cast<std::size_t>(j)] / width;
    }
  }
  return result;
}

/// Prefills a cache without sinks and compares what it keeps with the highest of `expected(lane)`.
template <class Cache, class Expected>
void keeps_the_highest(typename Cache::scorer_type const& scorer, Expected&& expected,
                       unsigned seed) {
  Prompt const prompt(seed);
  typename Cache::scheduler_type scheduler;
  scheduler.capacity = capacity;
  Cache cache(shape, {.max_tokens = 256, .max_sequences = 1, .sinks = 0, .window = window}, scorer,
              scheduler);
  Sequence const sequence = cache.open();
  std::vector<float> out(prompt.q.size());
  cache.attend(sequence, 0, prompt.q, prompt.k, prompt.v, out);
  cache.advance(sequence);
  for (int lane = 0; lane < cache.lanes_per_layer(); ++lane) {
    std::vector<double> const scores = expected(prompt, lane);
    std::vector<int> order(tokens - window);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
    });
    int const kept = capacity - window;
    double const edge = scores[static_cast<std::size_t>(order[static_cast<std::size_t>(kept)])];
    std::vector<Fidelity> fidelities(tokens);
    cache.fidelities(sequence, 0, lane, fidelities);
    int exact = 0;
    for (int row = 0; row < tokens; ++row) {
      bool const is_exact = fidelities[static_cast<std::size_t>(row)] == Fidelity::exact;
      exact += is_exact ? 1 : 0;
      double const score = scores[static_cast<std::size_t>(row)];
      if (row >= tokens - window) {
        CHECK(is_exact);
      } else if (std::fabs(score - edge) > 0.01 * std::fabs(edge)) {  // evidence has 8 bits or more
        INFO("lane " << lane << ", row " << row << ", score " << score << ", edge " << edge);
        CHECK(is_exact == (score > edge));
      }
    }
    CHECK(exact == capacity);
  }
}

}  // namespace

TEST_CASE("SnapKv keeps what the last queries look at, neighbours included", "[cache][published]") {
  auto const width = GENERATE(1, 5);
  keeps_the_highest<presets::SnapKv<>>(
      {.steps = window, .pooled = width},
      [&](Prompt const& prompt, int lane) {
        std::vector<double> sum(tokens, 0.0);
        for (int i = tokens - window; i < tokens; ++i) {
          std::vector<double> const mass = prompt.mass(i, lane);
          for (std::size_t j = 0; j < sum.size(); ++j) {
            sum[j] += mass[j] / window;
          }
        }
        return pooled(sum, width);
      },
      11);
}

TEST_CASE("H2o keeps what all queries look at", "[cache][published]") {
  bool const per_query = GENERATE(false, true);
  keeps_the_highest<presets::H2o<>>(
      {.per_query = per_query},
      [&](Prompt const& prompt, int lane) {
        std::vector<double> sum(tokens, 0.0);
        for (int i = 0; i < tokens; ++i) {
          std::vector<double> const mass = prompt.mass(i, lane);
          for (std::size_t j = 0; j < sum.size(); ++j) {
            sum[j] += mass[j];
          }
        }
        for (int j = 0; per_query && j < tokens; ++j) {
          sum[static_cast<std::size_t>(j)] /= tokens - j;
        }
        return sum;
      },
      12);
}

TEST_CASE("Tova keeps what the last query looks at, all heads together", "[cache][published]") {
  keeps_the_highest<presets::Tova<>>(
      {},
      [](Prompt const& prompt, int) {
        std::vector<double> mean(tokens, 0.0);
        for (int head = 0; head < shape.kv_heads; ++head) {
          std::vector<double> const mass = prompt.mass(tokens - 1, head);
          for (std::size_t j = 0; j < mean.size(); ++j) {
            mean[j] += mass[j] / shape.kv_heads;
          }
        }
        return mean;
      },
      13);
}

TEST_CASE("mean and variance of the last queries' masses, pooled", "[cache][published]") {
  using Cache = presets::Evicting<MeanVarianceScorer<>>;
  keeps_the_highest<Cache>(
      {.gamma = 200.0F, .prompt = window},
      [](Prompt const& prompt, int lane) {
        std::vector<double> scores(tokens, 0.0);
        std::vector<double> squares(tokens, 0.0);
        for (int i = tokens - window; i < tokens; ++i) {
          std::vector<double> const mass = prompt.mass(i, lane);
          for (std::size_t j = 0; j < scores.size(); ++j) {
            scores[j] += mass[j] / window;
            squares[j] += mass[j] * mass[j];
          }
        }
        for (std::size_t j = 0; j < scores.size(); ++j) {
          double const mean = scores[j];
          scores[j] += 200.0 * (squares[j] - window * mean * mean) / (window - 1);
        }
        return pooled(scores, 5);
      },
      14);
}

TEST_CASE("KeyDiff keeps keys that point elsewhere", "[cache][published]") {
  keeps_the_highest<presets::KeyDiff<>>(
      {},
      [](Prompt const& prompt, int lane) {
        std::vector<double> anchor(dim, 0.0);
        auto const norm = [&](int row) {
          double sum = 0.0;
          for (int d = 0; d < dim; ++d) {
            sum += prompt.key(row, lane, d) * prompt.key(row, lane, d);
          }
          return std::sqrt(sum);
        };
        for (int row = 0; row < tokens; ++row) {
          for (int d = 0; d < dim; ++d) {
            anchor[static_cast<std::size_t>(d)] += prompt.key(row, lane, d) / norm(row);
          }
        }
        double const length =
            std::sqrt(std::inner_product(anchor.begin(), anchor.end(), anchor.begin(), 0.0));
        std::vector<double> scores;
        for (int row = 0; row < tokens; ++row) {
          double dot = 0.0;
          for (int d = 0; d < dim; ++d) {
            dot += prompt.key(row, lane, d) * anchor[static_cast<std::size_t>(d)];
          }
          scores.push_back(1.0 - dot / (norm(row) * length));
        }
        return scores;
      },
      15);
}

TEST_CASE("rows of large values under small keys are kept", "[cache][published]") {
  using Cache = presets::Evicting<ValueKeyRatioScorer<>>;
  keeps_the_highest<Cache>(
      {},
      [](Prompt const& prompt, int lane) {
        std::vector<double> scores;
        for (int row = 0; row < tokens; ++row) {
          double kk = 0.0;
          double vv = 0.0;
          for (int d = 0; d < dim; ++d) {
            kk += prompt.key(row, lane, d) * prompt.key(row, lane, d);
            vv += prompt.value(row, lane, d) * prompt.value(row, lane, d);
          }
          scores.push_back(std::sqrt(vv / kk));
        }
        return scores;
      },
      16);
}

TEST_CASE("LagKv keeps what stands out by the next chunk's ranges", "[cache][published]") {
  constexpr int lag = 32;
  keeps_the_highest<presets::LagKv<>>(
      {.rows = lag},
      [](Prompt const& prompt, int lane) {
        std::vector<double> scores(tokens, 1.0);
        for (int begin = 0; begin + 2 * lag <= tokens; begin += lag) {
          std::vector<double> sum(lag, 0.0);
          for (bool const keys : {true, false}) {
            auto const at = [&](int row, int d) {
              return keys ? prompt.key(row, lane, d) : prompt.value(row, lane, d);
            };
            std::vector<double> weights;
            for (int i = begin; i < begin + lag; ++i) {
              std::vector<double> scaled;
              for (int d = 0; d < dim; ++d) {
                double low = 1e30;
                double high = -1e30;
                for (int j = begin + lag; j < begin + 2 * lag; ++j) {
                  low = std::min(low, at(j, d));
                  high = std::max(high, at(j, d));
                }
                scaled.push_back((at(i, d) - low) / (high - low));
              }
              double const mean = std::accumulate(scaled.begin(), scaled.end(), 0.0) / dim;
              double squares = 0.0;
              for (double const x : scaled) {
                squares += (x - mean) * (x - mean);
              }
              weights.push_back(std::exp(std::sqrt(squares / (dim - 1))));
            }
            double const total = std::accumulate(weights.begin(), weights.end(), 0.0);
            for (std::size_t i = 0; i < weights.size(); ++i) {
              sum[i] += weights[i] / total;
            }
          }
          for (int i = 0; i < lag; ++i) {
            auto const lower = std::count_if(sum.begin(), sum.end(), [&](double x) {
              return x < sum[static_cast<std::size_t>(i)];
            });
            scores[static_cast<std::size_t>(begin + i)] = static_cast<double>(lower) / lag;
          }
        }
        return scores;
      },
      17);
}
