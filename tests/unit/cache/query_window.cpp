#include <kvfreeze/kvfreeze.hpp>

#include "../../support/checked_cache.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <deque>
#include <vector>

using namespace kvfreeze;

namespace {

constexpr Shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 16};
constexpr int window = 8;

/// Feeds a cache and keeps the last queries; compares the sums that the scorer reads with sums in
/// double over the same queries.
template <class Cache>
class Watched {
 public:
  explicit Watched(typename Cache::scheduler_type const& scheduler)
      : cache_(shape, limits(), {.window = window}, scheduler),
        handle_(cache_.open()),
        stream_(shape, 77),
        reference_(shape) {}

  static Limits limits() {
    Limits limits;
    limits.max_tokens = 512;
    limits.window = 3;
    return limits;
  }

  void attend(int tokens) {
    auto in = stream_.next(tokens);
    cache_.attend(handle_, 0, in.q, in.k, in.v, in.out);
    take(in, tokens);
  }

  void observe(int times) {
    auto in = stream_.next(1);
    cache_.append(handle_, 0, in.k, in.v);
    cache_.recall(handle_, 0, in.q);
    for (int i = 0; i < times; ++i) {
      cache_.observe(handle_, 0, in.q);
    }
    take(in, 1, times > 0);
  }

  void truncate(int back) {
    int const length = reference_.length() - back;
    cache_.truncate(handle_, length);
    reference_.truncate(length);
    while (!queries_.empty() && queries_.back().position >= length) {
      queries_.pop_back();
    }
    compare();
  }

  void thaw() {
    cache_.thaw(handle_);
    compare();
  }

  [[nodiscard]] RowCounts rows() const { return cache_.rows(handle_); }

  [[nodiscard]] int thawed() const { return thawed_; }

 private:
  struct Query {
    int position;
    std::vector<float> q;
  };

  void take(kvfreeze_test::LayerInput const& in, int tokens, bool observed = true) {
    int const first = reference_.length();
    reference_.append(0, in.k, in.v);
    auto const width = static_cast<std::ptrdiff_t>(shape.query_heads * shape.head_dim);
    for (int i = 0; i < tokens && observed; ++i) {
      queries_.push_back({first + i, std::vector<float>(in.q.begin() + i * width,
                                                        in.q.begin() + (i + 1) * width)});
      if (queries_.size() > window) {
        queries_.pop_front();
      }
    }
    compare(observed);
    thawed_ += static_cast<int>(cache_.advance(handle_).thawed_rows);
    compare();
  }

  void compare(bool scored = false) {
    constexpr int page = Cache::layout_type::page_tokens;
    int const lanes = cache_.lanes_per_layer();
    int const heads = shape.query_heads / lanes;
    int const group = shape.query_heads / shape.kv_heads;
    for (int lane = 0; lane < lanes; ++lane) {
      auto const ref = cache_.memory().lane(handle_.index, static_cast<std::uint32_t>(lane));
      ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
        double highest = 0.0;
        for (int row = 0; row < ref.rows_of(granule); ++row) {
          int const position = static_cast<int>(granule) * page + row;
          double sum = 0.0;
          int seen = 0;
          for (Query const& query : queries_) {
            seen += query.position >= position ? 1 : 0;
            for (int h = lane * heads; h < (lane + 1) * heads && query.position >= position; ++h) {
              sum += std::fabs(
                  reference_.logit(0, h / group, position, query.q.data() + h * shape.head_dim));
            }
          }
          CAPTURE(lane, position, seen, reference_.length());
          double const kept = static_cast<double>(ref.sums(slot)[row]) / 4096.0;
          REQUIRE(kept == Approx(sum).margin(heads * window / 4096.0 + 1e-3).epsilon(1e-4));
          highest = std::max(highest, seen == 0 ? 0.0 : sum / (seen * heads));
        }
        if (scored) {  // the record keeps 8 bits of it
          double const kept = static_cast<double>(to_float(BFloat16{ref.record(slot).value}));
          REQUIRE(kept == Approx(highest).epsilon(0.01).margin(1e-3));
        }
      });
    }
  }

  Cache cache_;
  Sequence handle_;
  kvfreeze_test::InputStream stream_;
  kvfreeze_test::ReferenceCache<typename Cache::element_type> reference_;
  std::deque<Query> queries_;
  int thawed_ = 0;
};

template <Element T, int Page, Grouping Lanes, class Digest, Thaw Expiry, class Tier>
using Asr = KvFreezeCache<Layout<T, Page, Lanes>, MeanAbsDotScorer<Digest>,
                          SublinearScheduler<Expiry>, Tier, NeverTrigger>;

using Caches = std::tuple<Asr<Half, 1, Grouping::kv_head, NoDigest, Thaw::eager, HostTier>,
                          Asr<float, 1, Grouping::kv_head, KeyCodes<4>, Thaw::lazy, HostTier>,
                          Asr<BFloat16, 4, Grouping::layer, BoxDigest<>, Thaw::lazy, HostTier>,
                          Asr<float, 4, Grouping::kv_head, NoDigest, Thaw::eager, InPlaceTier>>;

}  // namespace

TEMPLATE_LIST_TEST_CASE("sums of |q.k| are those of the last queries", "[cache][query window]",
                        Caches) {
  Watched<TestType> cache({.softness = 0.6F, .quantile = 0.6F});
  cache.attend(30);
  for (int i = 0; i < 60; ++i) {
    cache.attend(1);
  }
  cache.attend(3);   // shorter than the window
  cache.attend(80);  // longer
  for (int i = 0; i < 20; ++i) {
    cache.attend(1);
  }
  REQUIRE(cache.rows().frozen + cache.rows().asleep > 0);
  REQUIRE(cache.thawed() > 0);
  cache.thaw();
  cache.attend(1);
  cache.truncate(2);
  cache.attend(1);
  cache.truncate(5);
  for (int i = 0; i < 4; ++i) {
    cache.attend(1);
  }
  cache.truncate(70);
  for (int i = 0; i < 12; ++i) {
    cache.attend(1);
  }
}

TEMPLATE_LIST_TEST_CASE("steps that nobody or somebody twice observed", "[cache][query window]",
                        Caches) {
  Watched<TestType> cache({.softness = 0.6F, .quantile = 0.6F});
  cache.attend(20);
  for (int i = 0; i < 40; ++i) {
    cache.observe(i % 7 == 3 ? 0 : i % 5 == 4 ? 2 : 1);
  }
}
