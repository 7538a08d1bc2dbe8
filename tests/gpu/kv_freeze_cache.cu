#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/host_twin.hpp>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

namespace {

using namespace kvfreeze;

/// Queries that look for keys of the past, so that few rows have most of the mass.
class Model {
 public:
  Model(Shape const& shape, unsigned seed) : shape_(shape), random_(seed) {}

  /// The next token of a layer.
  void step(std::vector<float>& q, std::vector<float>& k, std::vector<float>& v) {
    std::normal_distribution<float> normal;
    auto const dim = static_cast<std::size_t>(shape_.head_dim);
    k.resize(static_cast<std::size_t>(shape_.kv_heads) * dim);
    v.resize(k.size());
    q.resize(static_cast<std::size_t>(shape_.query_heads) * dim);
    for (std::size_t i = 0; i < k.size(); ++i) {
      k[i] = normal(random_) + (i % 7 == 0 ? 2.0F : 0.0F);
      v[i] = normal(random_) + 0.25F;
    }
    past_.push_back(k);
    auto const group = static_cast<std::size_t>(shape_.query_heads / shape_.kv_heads);
    std::uniform_int_distribution<std::size_t> pick(0, past_.size() - 1);
    for (std::size_t h = 0; h < static_cast<std::size_t>(shape_.query_heads); ++h) {
      std::vector<float> const& first = past_[pick(random_)];
      std::vector<float> const& second = past_[pick(random_)];
      for (std::size_t d = 0; d < dim; ++d) {
        std::size_t const at = h / group * dim + d;
        q[h * dim + d] = 0.5F * first[at] + 0.3F * second[at] + 0.5F * normal(random_);
      }
    }
  }

 private:
  Shape shape_;
  std::mt19937 random_;
  std::vector<std::vector<float>> past_;
};

/// The same history on the host and on the device.
template <class Device>
class Twins {
 public:
  template <class... Policies>
  Twins(std::unique_ptr<gpu::test::HostTwin> host, Shape const& shape, Limits const& limits,
        Policies const&... policies)
      : shape_(shape), host_(std::move(host)), device_(shape, limits, policies...) {}

  /// Opens a sequence on both sides.
  std::size_t open(unsigned seed) {
    sequences_.push_back({host_->open(), device_.open(stream_), {}, {}});
    for (int layer = 0; layer < shape_.layers; ++layer) {
      sequences_.back().models.emplace_back(shape_, seed + static_cast<unsigned>(layer));
    }
    return sequences_.size() - 1;
  }

  void close(std::size_t i) {
    host_->close(sequences_[i].host);
    device_.close(sequences_[i].device, stream_);
  }

  /// One step of some sequences; compares outputs, reports and the fidelity of every row.
  /// @return whether a trigger asked for recovery
  bool step(std::vector<std::size_t> const& batch) {
    device_.begin_async(handles(batch), stream_);
    for (int layer = 0; layer < shape_.layers; ++layer) {
      Rows const rows = next_rows(batch, layer);
      auto const q = gpu::test::upload(rows.q);
      auto const k = gpu::test::upload(rows.k);
      auto const v = gpu::test::upload(rows.v);
      gpu::DeviceArray<float> const out(rows.expected.size());
      device_.template attend_async<float>(layer, q, k, v, out, stream_);
      compare_outputs(layer, rows, out);
    }
    device_.advance_async(stream_);
    return compare_steps(batch);
  }

  /// What the sequence's last step read.
  [[nodiscard]] std::size_t touched_bytes(std::size_t i) const {
    return device_.report(sequences_[i].device).touched_bytes;
  }

  /// The same by a graph, captured at the first call, of which later ones replay the whole step.
  void replay(std::vector<std::size_t> const& batch) {
    device_.begin_async(handles(batch), stream_);
    std::vector<Rows> rows;
    for (int layer = 0; layer < shape_.layers; ++layer) {
      rows.push_back(next_rows(batch, layer));
    }
    bool const captures = graph_.q.empty();
    if (captures) {
      for (Rows const& of_layer : rows) {
        graph_.q.emplace_back(of_layer.q.size());
        graph_.k.emplace_back(of_layer.k.size());
        graph_.v.emplace_back(of_layer.v.size());
        graph_.out.emplace_back(of_layer.q.size());
      }
      graph_.step.capture(stream_, [&] {
        for (std::size_t i = 0; i < rows.size(); ++i) {
          device_.template attend_async<float>(static_cast<int>(i), graph_.q[i], graph_.k[i],
                                               graph_.v[i], graph_.out[i], stream_);
        }
        device_.advance_async(stream_);
      });
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      gpu::test::copy_to(graph_.q[i], rows[i].q);
      gpu::test::copy_to(graph_.k[i], rows[i].k);
      gpu::test::copy_to(graph_.v[i], rows[i].v);
    }
    graph_.step.launch(stream_);
    if (!captures) {
      device_.count_replay();
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      compare_outputs(static_cast<int>(i), rows[i], graph_.out[i]);
    }
    compare_steps(batch);
  }

  /// What the device is asked for by a step, of which the host knows nothing.
  std::optional<cudasimStats> count(std::vector<std::size_t> const& batch) {
    auto const counted = handles(batch);
    std::size_t const rows = batch.size() * static_cast<std::size_t>(shape_.head_dim);
    auto const q = gpu::test::filled(rows * static_cast<std::size_t>(shape_.query_heads), 0.5F);
    auto const k = gpu::test::filled(rows * static_cast<std::size_t>(shape_.kv_heads), 0.25F);
    gpu::DeviceArray<float> const out(q.size());
    return gpu::test::count(stream_, [&] {
      device_.begin_async(counted, stream_);
      for (int layer = 0; layer < shape_.layers; ++layer) {
        device_.template attend_async<float>(layer, q, k, k, out, stream_);
      }
      device_.advance_async(stream_);
    });
  }

  /// What became of a sequence's rows.
  [[nodiscard]] RowCounts rows(std::size_t i) const {
    return device_.report(sequences_[i].device).rows;
  }

 private:
  /// A captured step and the arrays that it reads and writes, by layer.
  struct Captured {
    gpu::test::Graph step;
    std::vector<gpu::DeviceArray<float>> q;
    std::vector<gpu::DeviceArray<float>> k;
    std::vector<gpu::DeviceArray<float>> v;
    std::vector<gpu::DeviceArray<float>> out;
  };

  /// A batch's new rows of one layer, and the host's attention.
  struct Rows {
    std::vector<float> q;
    std::vector<float> k;
    std::vector<float> v;
    std::vector<float> expected;
  };

  struct Pair {
    Sequence host;
    Sequence device;
    std::vector<Model> models;
    int length;
  };

  [[nodiscard]] std::vector<Sequence> handles(std::vector<std::size_t> const& batch) const {
    std::vector<Sequence> found;
    for (std::size_t const i : batch) {
      found.push_back(sequences_[i].device);
    }
    return found;
  }

  Rows next_rows(std::vector<std::size_t> const& batch, int layer) {
    Rows rows;
    auto const append = [](std::vector<float>& all, std::vector<float> const& one) {
      all.insert(all.end(), one.begin(), one.end());
    };
    for (std::size_t const i : batch) {
      Rows one;
      sequences_[i].models[static_cast<std::size_t>(layer)].step(one.q, one.k, one.v);
      one.expected.resize(one.q.size());
      host_->attend(sequences_[i].host, layer, one.q, one.k, one.v, one.expected);
      append(rows.q, one.q);
      append(rows.k, one.k);
      append(rows.v, one.v);
      append(rows.expected, one.expected);
    }
    return rows;
  }

  void compare_outputs(int layer, Rows const& rows, gpu::DeviceArray<float> const& out) const {
    auto const found = gpu::test::download(out, stream_);
    float worst = 0.0F;
    for (std::size_t i = 0; i < found.size(); ++i) {
      worst = std::max(worst, std::fabs(found[i] - rows.expected[i]));
    }
    INFO("layer " << layer);
    REQUIRE(worst < 2e-5F);
  }

  /// @return whether a trigger asked for recovery
  bool compare_steps(std::vector<std::size_t> const& batch) {
    stream_.wait();
    bool recovered = false;
    for (std::size_t const i : batch) {
      StepReport const expected = host_->advance(sequences_[i].host, {});
      compare(i, expected);
      recovered = recovered || expected.recovery != Recovery::none;
    }
    return recovered;
  }

  void compare(std::size_t i, StepReport const& expected) {
    StepReport const found = device_.report(sequences_[i].device);
    INFO("sequence " << i << ", step " << expected.step);
    REQUIRE(found.step == expected.step);
    REQUIRE(found.length == expected.length);
    int const length = expected.length;
    std::vector<Fidelity> host_rows(static_cast<std::size_t>(length));
    std::vector<Fidelity> device_rows(host_rows.size());
    for (int layer = 0; layer < shape_.layers; ++layer) {
      for (int lane = 0; lane < shape_.kv_heads; ++lane) {
        host_->fidelities(sequences_[i].host, layer, lane, host_rows);
        device_.fidelities(sequences_[i].device, layer, lane, device_rows, stream_);
        INFO("layer " << layer << ", lane " << lane);
        auto const different =
            std::mismatch(host_rows.begin(), host_rows.end(), device_rows.begin());
        if (different.first != host_rows.end()) {
          INFO("row " << different.first - host_rows.begin() << ": host "
                      << static_cast<int>(*different.first) << ", device "
                      << static_cast<int>(*different.second));
          REQUIRE(host_rows == device_rows);
        }
      }
    }
    REQUIRE(found.rows == expected.rows);
    REQUIRE(found.missed_mass == expected.missed_mass);
    REQUIRE(found.missed_mass_max == expected.missed_mass_max);
    REQUIRE(found.thawed_rows == expected.thawed_rows);
    REQUIRE(found.frozen_rows == expected.frozen_rows);
    REQUIRE(found.moved_in_bytes == expected.moved_in_bytes);
    REQUIRE(found.recovery == expected.recovery);
    REQUIRE(found.touched_bytes > 0);
  }

  Shape shape_;
  gpu::test::Stream stream_;
  std::unique_ptr<gpu::test::HostTwin> host_;
  Device device_;
  std::vector<Pair> sequences_;
  Captured graph_;
};

LadderScheduler<> ladder() {
  LadderScheduler<> scheduler;
  scheduler.dense = false;
  return scheduler;
}

template <class T, class Trigger>
using Ladder =
    gpu::KvFreezeCache<Layout<T, 1, Grouping::kv_head, LadderRows>,
                       InstantMassScorer<NestedKeyCodes<1, 5>>, LadderScheduler<>, Trigger>;

using Flat =
    gpu::KvFreezeCache<Layout<BFloat16, 1, Grouping::kv_head, CompactRows<CompactLevel<4, 4>>>,
                       InstantMassScorer<KeyCodes<4>>, LadderScheduler<>, NeverTrigger>;

constexpr Shape small{.layers = 2, .query_heads = 6, .kv_heads = 2, .head_dim = 64};

Limits limits_of(int tokens, int sequences) {
  return {.max_tokens = tokens, .max_sequences = sequences, .window = 16};
}

template <class Trigger>
auto ladder_twins(Shape const& shape, Limits const& limits, LadderScheduler<> const& scheduler,
                  Trigger const& trigger) {
  return Twins<Ladder<Half, Trigger>>(
      gpu::test::make_ladder_twin<Half>(shape, limits, scheduler, trigger), shape, limits,
      scheduler, trigger);
}

}  // namespace

TEST_CASE("The ladder decides on the device as on the host", "[cache]") {
  auto twins = ladder_twins(small, limits_of(512, 1), ladder(), NeverTrigger{});
  std::size_t const sequence = twins.open(1);
  for (int i = 0; i < 300; ++i) {
    twins.step({sequence});
  }
  RowCounts const rows = twins.rows(sequence);
  CHECK(rows.exact > 0);
  CHECK(rows.compact > 0);
  CHECK(rows.frozen > 0);
}

TEST_CASE("Sequences of different lengths share steps, come and go", "[cache]") {
  auto scheduler = ladder();
  scheduler.stay = 1;
  scheduler.every = 1;
  scheduler.none = 0.05F;
  scheduler.first = 0.1F;
  auto twins = ladder_twins(small, limits_of(256, 3), scheduler, NeverTrigger{});
  std::size_t const first = twins.open(10);
  for (int i = 0; i < 90; ++i) {
    twins.step({first});
  }
  std::size_t const second = twins.open(20);
  std::size_t const third = twins.open(30);
  for (int i = 0; i < 80; ++i) {
    twins.step({second, first});
    twins.step({third});
  }
  twins.close(first);
  std::size_t const fourth = twins.open(40);
  for (int i = 0; i < 70; ++i) {
    twins.step({fourth, second, third});
  }
}

TEST_CASE("A trigger that asks for recovery gets it on both sides", "[cache]") {
  auto scheduler = ladder();
  scheduler.none = 0.3F;
  scheduler.first = 0.4F;
  scheduler.second = 0.5F;
  MissedMassTrigger trigger;
  trigger.limit = 0.05F;
  trigger.cooldown = 8;
  auto twins = ladder_twins(small, limits_of(256, 1), scheduler, trigger);
  std::size_t const sequence = twins.open(5);
  bool recovered = false;
  for (int i = 0; i < 140; ++i) {
    recovered = twins.step({sequence}) || recovered;
  }
  CHECK(recovered);
}

TEST_CASE("Lanes that the ladder does not pay for stay whole", "[cache]") {
  auto twins = ladder_twins(small, limits_of(256, 1), LadderScheduler<>{}, NeverTrigger{});
  std::size_t const sequence = twins.open(6);
  for (int i = 0; i < 150; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).total() == twins.rows(sequence).exact);
  // K and V of every row in every lane: 2 layers, 2 lanes, 150 rows of 64 + 64 elements.
  CHECK(twins.touched_bytes(sequence) == std::size_t{2 * 2 * 150 * 128 * 2});
}

TEST_CASE("One compact level, flat codes, other elements", "[cache]") {
  Shape const shape{.layers = 1, .query_heads = 4, .kv_heads = 1, .head_dim = 64};
  auto scheduler = ladder();
  scheduler.first = 0.4F;
  scheduler.second = 1.0F;
  Limits const limits = limits_of(256, 1);
  Twins<Flat> twins(gpu::test::make_flat_twin<BFloat16>(shape, limits, scheduler, NeverTrigger{}),
                    shape, limits, scheduler, NeverTrigger{});
  std::size_t const sequence = twins.open(7);
  for (int i = 0; i < 200; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).compact > 0);
}

TEST_CASE("More lanes than blocks that a small device holds", "[cache]") {
  Shape const shape{.layers = 1, .query_heads = 24, .kv_heads = 24, .head_dim = 64};
  auto twins = ladder_twins(shape, limits_of(192, 1), ladder(), NeverTrigger{});
  std::size_t const sequence = twins.open(9);
  for (int i = 0; i < 130; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("A step is a fixed number of launches, and nothing else", "[cache]") {
  auto twins = ladder_twins(small, limits_of(256, 1), ladder(), NeverTrigger{});
  std::size_t const sequence = twins.open(8);
  for (int i = 0; i < 120; ++i) {
    twins.step({sequence});
  }
  auto const counted = twins.count({sequence});
  if (!counted) {
    WARN("nobody counts launches here");
    return;
  }
  constexpr unsigned per_layer = 3;  // append, ranking, attention
  CHECK(counted->kernel_launches == 1 + per_layer * small.layers + 3);
  CHECK(counted->host_syncs == 0);
  CHECK(counted->mallocs + counted->async_mallocs + counted->host_allocs == 0);
  CHECK(counted->copies_h2d + counted->copies_d2h + counted->memsets == 0);
}

TEST_CASE("A captured step serves later ones, and other sequences", "[cache]") {
  auto twins = ladder_twins(small, limits_of(256, 3), ladder(), NeverTrigger{});
  std::size_t const first = twins.open(11);
  std::size_t const second = twins.open(12);
  std::size_t const third = twins.open(13);
  for (int i = 0; i < 20; ++i) {
    twins.step({first});
  }
  for (int i = 0; i < 100; ++i) {
    twins.replay({first, second});
    if (i % 2 == 0) {
      twins.replay({third, first});
    }
  }
  twins.step({second, third});
}

TEST_CASE("Bad input is refused, and loses nothing", "[cache]") {
  gpu::test::Stream const stream;
  using Cache = Ladder<Half, NeverTrigger>;
  CHECK_THROWS_AS(Cache(small, Limits{.max_tokens = 64, .resident_bytes = 1 << 20}),
                  InvalidArgument);
  CHECK_THROWS_AS(Cache(Shape{.layers = 1, .query_heads = 3, .kv_heads = 2, .head_dim = 64}),
                  InvalidArgument);
  CHECK_THROWS_AS(Cache(Shape{.layers = 1, .query_heads = 65, .kv_heads = 1, .head_dim = 64}),
                  InvalidArgument);
  CHECK_THROWS_AS(Cache(Shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 60}),
                  InvalidArgument);
  CHECK_THROWS_AS(Cache(small, limits_of(64, 1), LadderScheduler<>{.first = 0.4F}),
                  InvalidArgument);
  Limits limits = limits_of(2, 1);
  limits.sinks = 1;
  Cache cache(small, limits);
  CHECK_THROWS_AS(cache.begin_async({}, stream), InvalidArgument);
  CHECK_THROWS_AS(cache.length(Sequence{}), UnknownSequence);
  Sequence const sequence = cache.open(stream);
  CHECK_THROWS_AS(static_cast<void>(cache.open(stream)), CapacityError);
  std::array const twice{sequence, sequence};
  CHECK_THROWS_AS(cache.begin_async(twice, stream), InvalidArgument);
  std::array const batch{sequence};
  auto const q = gpu::test::filled<float>(6 * 64, 1.0F);
  auto const k = gpu::test::filled<float>(2 * 64, 1.0F);
  auto const wrong = gpu::test::filled<float>(2 * 64, std::nanf(""));
  gpu::DeviceArray<float> const out(6 * 64);
  CHECK_THROWS_AS((cache.attend_async<float>(0, q, k, k, out, stream)), InvalidArgument);
  cache.begin_async(batch, stream);
  CHECK_THROWS_AS((cache.attend_async<float>(2, q, k, k, out, stream)), InvalidArgument);
  CHECK_THROWS_AS((cache.attend_async<float>(0, k, k, k, out, stream)), InvalidArgument);
  cache.attend_async<float>(0, q, k, k, out, stream);
  cache.attend_async<float>(1, q, k, wrong, out, stream);
  cache.advance_async(stream);
  stream.wait();
  CHECK(cache.length(sequence) == 1);
  CHECK_THROWS_AS(cache.begin_async(batch, stream), InvalidArgument);  // of what was not finite
  cache.begin_async(batch, stream);
  cache.attend_async<float>(0, q, k, k, out, stream);
  cache.attend_async<float>(1, q, k, k, out, stream);
  cache.advance_async(stream);
  stream.wait();
  CHECK(cache.report(sequence).step == 2);
  CHECK_THROWS_AS(cache.begin_async(batch, stream), CapacityError);
  cache.close(sequence, stream);
  CHECK_THROWS_AS(cache.length(sequence), UnknownSequence);
}
