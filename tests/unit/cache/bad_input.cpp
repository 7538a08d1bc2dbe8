#include <kvfreeze/kvfreeze.hpp>

#include "../../support/archetypes.hpp"
#include "../../support/checked_cache.hpp"
#include "../../support/short_tests.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using namespace kvfreeze;
using Catch::Contains;

namespace {

constexpr Shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16};

using Cache = presets::ExactRecall<>;

/// Everything that a caller can see of a cache.
template <class AnyCache>
struct Snapshot {
  std::vector<Fidelity> fidelities;
  RowCounts rows;
  Ledger ledger;
  std::vector<std::vector<typename AnyCache::element_type>> k;

  Snapshot(AnyCache& cache, Sequence sequence)
      : fidelities(kvfreeze_test::all_fidelities(cache, sequence)),
        rows(cache.rows(sequence)),
        ledger(cache.ledger()) {
    for (int layer = 0; layer < cache.shape().layers; ++layer) {
      for (int lane = 0; lane < cache.lanes_per_layer(); ++lane) {
        auto const view = cache.view(sequence, layer, lane);
        auto& rows_here = k.emplace_back();
        for (int i = 0; i < view.rows(); ++i) {
          rows_here.insert(rows_here.end(), view.k(i), view.k(i) + view.heads * view.head_dim);
        }
      }
    }
  }

  friend bool operator==(Snapshot const&, Snapshot const&) = default;
};

template <class E>
void rejects(std::string const& message, std::function<void()> const& call) {
  CAPTURE(message);
  REQUIRE_THROWS_AS(call(), E);
  REQUIRE_THROWS_WITH(call(), Contains(message));
}

void rejects_construction(std::string const& message, Shape const& s, Limits const& limits = {}) {
  rejects<InvalidArgument>(message, [&] { Cache(s, limits); });
}

}  // namespace

TEST_CASE("shapes that no model has", "[cache][bad input]") {
  auto const with = [](auto change) {
    Shape s = shape;
    change(s);
    return s;
  };
  rejects_construction("Shape::layers is 0", with([](Shape& s) { s.layers = 0; }));
  rejects_construction("Shape::kv_heads is -1", with([](Shape& s) { s.kv_heads = -1; }));
  rejects_construction("Shape::query_heads is 5, must be a positive multiple of kv_heads = 2",
                       with([](Shape& s) { s.query_heads = 5; }));
  rejects_construction("Shape::query_heads is 0", with([](Shape& s) { s.query_heads = 0; }));
  rejects_construction("query_heads / kv_heads is 65", with([](Shape& s) { s.query_heads = 130; }));
  for (int const dim : {0, -8, 4, 12, 520}) {
    rejects_construction("Shape::head_dim is " + std::to_string(dim),
                         with([dim](Shape& s) { s.head_dim = dim; }));
  }
  rejects_construction("Shape::scale is -1", with([](Shape& s) { s.scale = -1.0F; }));
  rejects_construction("Shape::scale is nan", with([](Shape& s) { s.scale = std::nanf(""); }));
}

TEST_CASE("a shape that the layout was not compiled for", "[cache][bad input]") {
  using Narrow = KvFreezeCache<Layout<Half, 1, Grouping::kv_head, CompactRows<>, 64>>;
  Shape wide = shape;
  wide.head_dim = 72;
  rejects<InvalidArgument>("Shape::head_dim is 72, must be at most Layout::max_head_dim = 64",
                           [&] { Narrow cache(wide); });
  wide.head_dim = 64;
  CHECK_NOTHROW(Narrow(wide));
  wide.head_dim = 56;
  CHECK_NOTHROW(Narrow(wide));

  using Pairs = KvFreezeCache<Layout<Half, 1, Grouping::kv_head, CompactRows<>, 0, 2>>;
  Shape many = shape;
  many.query_heads = 3 * many.kv_heads;
  rejects<InvalidArgument>(
      "Shape::query_heads / kv_heads is 3, must be at most Layout::max_group = 2",
      [&] { Pairs cache(many); });
  many.query_heads = 2 * many.kv_heads;
  CHECK_NOTHROW(Pairs(many));
  many.query_heads = many.kv_heads;
  CHECK_NOTHROW(Pairs(many));
}

TEST_CASE("limits out of range", "[cache][bad input]") {
  auto const rejected = [](std::string const& message, auto change) {
    Limits limits;
    change(limits);
    rejects_construction(message, shape, limits);
  };
  rejected("Limits::max_tokens is 0", [](Limits& l) { l.max_tokens = 0; });
  rejected("Limits::max_tokens is 16777217", [](Limits& l) { l.max_tokens = (1 << 24) + 1; });
  rejected("Limits::max_sequences is 0", [](Limits& l) { l.max_sequences = 0; });
  rejected("Limits::max_sequences is 65537", [](Limits& l) { l.max_sequences = 65537; });
  rejected("Limits::sinks is -1", [](Limits& l) { l.sinks = -1; });
  rejected("Limits::sinks is 4097", [](Limits& l) { l.sinks = 4097; });
  rejected("Limits::window is 0", [](Limits& l) { l.window = 0; });
  rejected("Limits::parts is 0", [](Limits& l) { l.parts = 0; });
  rejected("Limits::parts is 257", [](Limits& l) { l.parts = 257; });
  rejected("Limits::transfer_bytes is 255, must be at least 256",
           [](Limits& l) { l.transfer_bytes = 255; });
}

TEST_CASE("policies out of range", "[cache][bad input]") {
  rejects<InvalidArgument>("WaterLevelScheduler::missed_mass",
                           [] { Cache(shape, {}, {}, {.missed_mass = 2.0F}); });
  rejects<InvalidArgument>("MissedMassTrigger::patience",
                           [] { Cache(shape, {}, {}, {}, HostTier(), {.patience = 0}); });
  rejects<InvalidArgument>("MeanAbsDotScorer::window",
                           [] { presets::AsrKfEgr<>(shape, {}, {.window = 0}); });
  rejects<InvalidArgument>("SublinearScheduler::softness",
                           [] { presets::AsrKfEgr<>(shape, {}, {}, {.softness = 0.0F}); });
}

TEMPLATE_TEST_CASE("the least cap is said, and works", "[cache][bad input]", presets::ExactRecall<>,
                   presets::AsrKfEgr<float>, presets::AsrKfEgrEager<BFloat16>,
                   presets::StreamingLlm<>, presets::KvFreeze<>, presets::UniformQuantised<4>) {
  Limits limits;
  limits.max_tokens = kvfreeze_test::short_tests() ? 150 : 300;
  limits.max_sequences = 2;
  limits.sinks = GENERATE(0, 5);
  limits.window = GENERATE(1, 20, 100);
  if (kvfreeze_test::short_tests() && limits.window == 20) {
    return;
  }
  limits.resident_bytes = 1000;
  std::size_t least = 0;
  try {
    TestType cache(shape, limits);
  } catch (CapacityError const& error) {
    least = error.needed();
    REQUIRE(error.available() == 1000);
    REQUIRE_THAT(error.what(), Contains("Limits::resident_bytes is 1000") &&
                                   Contains("needs at least " + std::to_string(least)) &&
                                   Contains("window = " + std::to_string(limits.window)));
  }
  REQUIRE(least > 1000);
  limits.resident_bytes = least - 1;
  REQUIRE_THROWS_AS(TestType(shape, limits), CapacityError);
  limits.resident_bytes = least;
  TestType cache(shape, limits);
  kvfreeze_test::CheckedSequence<TestType> sequence(cache, 9);
  sequence.attend(90);
  while (sequence.length() < limits.max_tokens) {
    sequence.attend(1);
  }
  REQUIRE_THROWS_WITH(cache.open(),
                      Contains("open(): 2 sequences need") && Contains(std::to_string(least)));
  sequence.close();
  auto const whole = cache.open();  // and in one chunk
  kvfreeze_test::InputStream stream(shape, 2);
  for (int layer = 0; layer < shape.layers; ++layer) {
    auto in = stream.next(limits.max_tokens);
    cache.attend(whole, layer, in.q, in.k, in.v, in.out);
  }
  REQUIRE(cache.advance(whole).ledger.resident() <= least);
}

TEST_CASE("calls with wrong arguments change nothing", "[cache][bad input]") {
  Limits limits;
  limits.max_tokens = 100;
  limits.max_sequences = 1;
  limits.window = 8;
  limits.parts = 2;
  Cache cache(shape, limits, {}, {.dense_rows = 0});
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 4);
  sequence.attend(80);
  for (int i = 0; i < 10; ++i) {
    sequence.attend(1);
  }
  Sequence const s = sequence.handle();
  REQUIRE(cache.rows(s).frozen > 0);
  kvfreeze_test::InputStream stream(shape, 6);
  auto in = stream.next(1);
  auto const chunk = stream.next(11);
  std::vector<float> const short_row(31);
  std::vector<float> out(64);
  std::vector<float> small_out(63);
  std::vector<Half> k(4);
  std::vector<std::int32_t> positions(400);
  std::vector<Fidelity> fidelities(3);
  Snapshot const before(cache, s);
  auto const attend = [&](std::vector<float> const& q, std::vector<float> const& key,
                          std::vector<float> const& value, int layer = 0, Part part = {}) {
    return [&cache, &out, s, q, key, value, layer, part] {
      cache.attend(s, layer, q, key, value, out, part);
    };
  };
  auto const with = [](std::vector<float> values, std::size_t i, float x) {
    values[i] = x;
    return values;
  };
  float const nan = std::nanf("");
  float const infinity = std::numeric_limits<float>::infinity();
  using I = InvalidArgument;

  rejects<I>(
      "attend(): k has 31 and v 32 elements, both must be the same multiple of kv_heads * "
      "head_dim = 32",
      attend(in.q, short_row, in.v));
  rejects<I>("attend(): k has 32 and v 31", attend(in.q, in.k, short_row));
  rejects<I>("attend(): k has 0", attend(in.q, {}, {}));
  rejects<I>("attend(): q has 31 elements, 1 * query_heads * head_dim is 64",
             attend(short_row, in.k, in.v));
  rejects<I>("attend(): out has 63 elements, q has 64",
             [&] { cache.attend(s, 0, in.q, in.k, in.v, small_out); });
  rejects<I>("attend(): k[7] is nan", attend(in.q, with(in.k, 7, nan), in.v));
  rejects<I>("attend(): k[31] is -inf", attend(in.q, with(in.k, 31, -infinity), in.v));
  rejects<I>("attend(): v[0] is inf", attend(in.q, in.k, with(in.v, 0, infinity)));
  rejects<I>("attend(): q[63] is nan", attend(with(in.q, 63, nan), in.k, in.v));
  rejects<I>("attend(): v[3] is 70000", attend(in.q, in.k, with(in.v, 3, 70000.0F)));
  rejects<I>("attend(): layer 2 is outside [0, 2)", attend(in.q, in.k, in.v, 2));
  rejects<I>("attend(): layer -1 is outside", attend(in.q, in.k, in.v, -1));
  rejects<I>("attend(): part 0 of 3, Limits::parts is 2", attend(in.q, in.k, in.v, 0, {0, 3}));
  rejects<I>("attend(): part 2 of 2", attend(in.q, in.k, in.v, 0, {2, 2}));
  rejects<I>("attend(): part -1 of 2", attend(in.q, in.k, in.v, 0, {-1, 2}));
  rejects<I>("attend(): part 0 of 0", attend(in.q, in.k, in.v, 0, {0, 0}));
  rejects<CapacityError>("attend(): 90 + 11 tokens exceed Limits::max_tokens = 100",
                         [&] { cache.attend(s, 0, chunk.q, chunk.k, chunk.v, out); });
  rejects<CapacityError>("append(): 90 + 11 tokens", [&] { cache.append(s, 0, chunk.k, chunk.v); });
  rejects<I>("append(): k[2] is nan", [&] { cache.append(s, 0, with(in.k, 2, nan), in.v); });
  rejects<I>("append(): layer 5", [&] { cache.append(s, 5, in.k, in.v); });
  rejects<I>("recall(): q has 31", [&] { cache.recall(s, 0, short_row); });
  rejects<I>("recall(): q[1] is nan", [&] { cache.recall(s, 0, with(in.q, 1, nan)); });
  rejects<I>("observe(): q has 31", [&] { cache.observe(s, 0, short_row); });
  rejects<I>("observe(): lse has 31 elements, query_heads is 4",
             [&] { cache.observe(s, 0, in.q, short_row); });
  rejects<I>("observe(): weights has 31 elements, the layer's views need",
             [&] { cache.observe(s, 0, in.q, {}, short_row); });
  rejects<I>("view(): layer 2", [&] { static_cast<void>(cache.view(s, 2, 0)); });
  rejects<I>("view(): lane 2 is outside [0, 2)", [&] { static_cast<void>(cache.view(s, 0, 2)); });
  rejects<I>("gather(): ", [&] { cache.gather(s, 0, 0, k, k, positions); });
  rejects<I>("exact_rows(): lane -1", [&] { static_cast<void>(cache.exact_rows(s, 0, -1)); });
  rejects<I>("fidelities(): out has 3 elements, the sequence has 90 tokens",
             [&] { cache.fidelities(s, 0, 0, fidelities); });
  rejects<I>("advance(): nothing was appended", [&] { static_cast<void>(cache.advance(s)); });
  rejects<I>("truncate(): length 91 is outside [0, 90]", [&] { cache.truncate(s, 91); });
  rejects<I>("truncate(): length -1", [&] { cache.truncate(s, -1); });
  auto const pin = [&](std::vector<TokenRange> ranges) {
    return [&cache, s, ranges] { cache.pin(s, ranges); };
  };
  rejects<I>("pin(): range [5, 5)", pin({{5, 5}}));
  rejects<I>("pin(): range [9, 3)", pin({{9, 3}}));
  rejects<I>("pin(): range [-1, 3)", pin({{-1, 3}}));
  rejects<I>("pin(): range [12, 20) must be non-empty, begin at 15", pin({{10, 15}, {12, 20}}));
  rejects<I>("pin(): range [1, 2)", pin({{10, 15}, {1, 2}}));
  rejects<I>("end at 100 or before", pin({{10, 101}}));
  rejects<CapacityError>("open(): Limits::max_sequences = 1 are open",
                         [&] { static_cast<void>(cache.open()); });

  REQUIRE(Snapshot(cache, s) == before);
  sequence.check();
  sequence.attend(1);

  // Bad logits: the step is not taken, and can be taken with good ones.
  for (int layer = 0; layer < shape.layers; ++layer) {
    cache.attend(s, layer, in.q, in.k, in.v, out);
  }
  rejects<I>("logits[2] of 4 is NaN or +infinity", [&] {
    static_cast<void>(cache.advance(s, std::vector<float>{1.0F, 2.0F, nan, 0.0F}));
  });
  rejects<I>("logits[0] of 2",
             [&] { static_cast<void>(cache.advance(s, std::vector<float>{infinity, 0.0F})); });
  REQUIRE(cache.length(s) == 91);
  REQUIRE(cache.advance(s, std::vector<float>{1.0F, 2.0F}).length == 92);

  // A layer is missing.
  cache.attend(s, 0, in.q, in.k, in.v, out);
  rejects<I>("advance(): layer 1 lane 0 holds 92 rows, layer 0 lane 0 holds 93",
             [&] { static_cast<void>(cache.advance(s)); });
  cache.attend(s, 1, in.q, in.k, in.v, out);
  REQUIRE(cache.advance(s).length == 93);
}

TEST_CASE("unknown and closed sequences", "[cache][bad input]") {
  Cache cache(shape);
  Sequence const first = cache.open();
  Sequence const other = cache.open();
  cache.close(first);
  std::vector<float> row(32, 1.0F);
  std::vector<float> q(64, 1.0F);
  std::vector<Fidelity> none;
  for (Sequence const stale :
       {first, Sequence{}, Sequence{other.index, other.generation + 1}, Sequence{70000, 1}}) {
    std::string const name = "sequence {" + std::to_string(stale.index) + ", " +
                             std::to_string(stale.generation) + "} is not open";
    using U = UnknownSequence;
    rejects<U>(name, [&] { cache.close(stale); });
    rejects<U>(name, [&] { static_cast<void>(cache.length(stale)); });
    rejects<U>(name, [&] { cache.truncate(stale, 0); });
    rejects<U>(name, [&] { cache.pin(stale, {}); });
    rejects<U>(name, [&] { cache.append(stale, 0, row, row); });
    rejects<U>(name, [&] { cache.recall(stale, 0, q); });
    rejects<U>(name, [&] { cache.attend(stale, 0, q, row, row, q); });
    rejects<U>(name, [&] { static_cast<void>(cache.view(stale, 0, 0)); });
    rejects<U>(name, [&] { cache.observe(stale, 0, q); });
    rejects<U>(name, [&] { static_cast<void>(cache.advance(stale)); });
    rejects<U>(name, [&] { cache.thaw(stale); });
    rejects<U>(name, [&] { static_cast<void>(cache.rows(stale)); });
    rejects<U>(name, [&] { static_cast<void>(cache.exact_rows(stale, 0, 0)); });
    rejects<U>(name, [&] { cache.fidelities(stale, 0, 0, none); });
  }
  Sequence const again = cache.open();  // the slot is reused, the old handle stays stale
  REQUIRE(again.index == first.index);
  REQUIRE_THROWS_AS(cache.length(first), UnknownSequence);
}

TEST_CASE("values that an element cannot hold", "[cache][bad input]") {
  std::vector<float> row(32, 1.0F);
  std::vector<float> const q(64, 1.0F);
  std::vector<float> out(64);
  row[5] = 3.4e38F;  // finite as float, infinite as BFloat16
  presets::Plain<BFloat16> narrow(shape);
  auto const sequence = narrow.open();
  REQUIRE_THROWS_WITH(narrow.attend(sequence, 0, q, row, row, out), Contains("attend(): k[5] is"));
  row[5] = 65504.0F;
  presets::Plain<Half> half(shape);
  REQUIRE_NOTHROW(half.attend(half.open(), 0, q, row, row, out));
}

TEST_CASE("thawing more than the cap holds", "[cache][bad input]") {
  Limits limits;
  limits.max_tokens = 2000;
  limits.max_sequences = 1;
  limits.resident_bytes = kvfreeze_test::short_tests() ? 300000 : 500000;
  Cache cache(shape, limits);
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 4);
  for (int i = 0; i < (kvfreeze_test::short_tests() ? 3 : 5); ++i) {
    sequence.attend(300);
  }
  Snapshot const before(cache, sequence.handle());
  rejects<CapacityError>("thaw(): Limits::resident_bytes is " +
                             std::to_string(limits.resident_bytes) + ", all rows need",
                         [&] { cache.thaw(sequence.handle()); });
  REQUIRE(Snapshot(cache, sequence.handle()) == before);
  sequence.attend(1);
}

TEST_CASE("a tier that is always out of order", "[cache][bad input]") {
  Limits limits;
  limits.window = 4;
  using Broken = KvFreezeCache<Layout<>, RecencyScorer, OverCapacityScheduler,
                               archetypes::ThrowingTier, NeverTrigger>;
  Broken cache(shape, limits, {}, {.capacity = 10});
  kvfreeze_test::CheckedSequence<Broken> sequence(cache, 4);
  sequence.survive_faults();
  for (int i = 0; i < 30; ++i) {
    sequence.attend(1);
  }
  REQUIRE(sequence.faults() == 20);
  REQUIRE(cache.rows(sequence.handle()).exact == 30 * 4);
}

TEST_CASE("truncation cannot split what is gone", "[cache][bad input]") {
  Limits limits;
  limits.window = 4;
  limits.sinks = 0;
  using Discarding = KvFreezeCache<Layout<Half, 4>, RecencyScorer, OverCapacityScheduler,
                                   DiscardTier, NeverTrigger>;
  Discarding cache(shape, limits, {}, {.capacity = 3});
  kvfreeze_test::CheckedSequence<Discarding> sequence(cache, 4);
  for (int i = 0; i < 40; ++i) {
    sequence.attend(1);
  }
  Snapshot const before(cache, sequence.handle());
  rejects<InvalidArgument>("length 6 cuts the granule of 4 rows at 4 of layer 0, which is evicted",
                           [&] { cache.truncate(sequence.handle(), 6); });
  REQUIRE(Snapshot(cache, sequence.handle()) == before);
  sequence.truncate(8);
  for (int i = 0; i < 20; ++i) {
    sequence.attend(1);
  }
}
