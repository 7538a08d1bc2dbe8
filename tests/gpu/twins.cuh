#pragma once

/// @file
/// @brief A cache of the host and one of the device that live the same history, and what compares
/// them after each step.

#include <kvfreeze/report.hpp>
#include <kvfreeze/types.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <gpu/device.cuh>
#include <gpu/host_twin.hpp>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <support/short_tests.hpp>
#include <utility>
#include <vector>

namespace kvfreeze::gpu::test {

inline constexpr Shape small{.layers = 2, .query_heads = 6, .kv_heads = 2, .head_dim = 64};

inline Limits limits_of(int tokens, int sequences) {
  return {.max_tokens = tokens, .max_sequences = sequences, .window = 16};
}

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

/// Does it give all rows back?
template <class Device>
inline constexpr bool gives_rows =
    requires(Device& device, Span<typename Device::element_type> rows, ::cuda::stream_ref stream) {
      device.gather_async(Sequence{}, 0, rows, rows, stream);
    };

/// The same history on the host and on the device.
template <class Device>
class Twins {
 public:
  template <class... Policies>
  Twins(std::unique_ptr<HostTwin> host, Shape const& shape, Limits const& limits,
        Policies const&... policies)
      : shape_(shape), host_(std::move(host)), device_(shape, limits, policies...) {}

  /// Opens a sequence on both sides.
  std::size_t open(unsigned seed) {
    auto const layers = static_cast<std::size_t>(shape_.layers);
    sequences_.push_back({host_->open(), device_.open(stream_), {}, {}, {}, {}});
    sequences_.back().k.resize(layers);
    sequences_.back().v.resize(layers);
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
  /// @param logits [batch][any], or none
  /// @return whether a trigger asked for recovery
  bool step(std::vector<std::size_t> const& batch, std::vector<float> const& logits = {}) {
    device_.begin_async(handles(batch), stream_);
    for (int layer = 0; layer < shape_.layers; ++layer) {
      Rows const rows = next_rows(batch, layer);
      auto const q = upload(rows.q);
      auto const k = upload(rows.k);
      auto const v = upload(rows.v);
      DeviceArray<float> const out(rows.expected.size());
      device_.template attend_async<float>(layer, q, k, v, out, stream_);
      compare_outputs(layer, rows, out);
    }
    auto const given = upload(logits);
    device_.template advance_async<float>(given, stream_);
    return compare_steps(batch, logits);
  }

  /// A chunk of a sequence's prompt. The host reads frozen rows for its attention, which is the
  /// caller's on the device: what it moves is not compared.
  void prefill(std::size_t i, int tokens) {
    device_.begin_prefill_async(sequences_[i].device, tokens, stream_);
    for (int layer = 0; layer < shape_.layers; ++layer) {
      Rows rows;
      for (int token = 0; token < tokens; ++token) {
        next_token(i, layer, rows);
      }
      rows.expected.resize(rows.q.size());
      host_->attend(sequences_[i].host, layer, rows.q, rows.k, rows.v, rows.expected);
      auto const q = upload(rows.q);
      auto const k = upload(rows.k);
      auto const v = upload(rows.v);
      device_.template prefill_async<float>(layer, q, k, v, stream_);
      compare_rows(i, layer);
    }
    device_.advance_async(stream_);
    stream_.wait();
    compare(i, host_->advance(sequences_[i].host, {}), false);
  }

  /// Both forget the tokens from `length` on.
  void truncate(std::size_t i, int length) {
    host_->truncate(sequences_[i].host, length);
    truncate_device(i, length);
  }

  /// The length that the sequence has gone back to, if its engine has not.
  [[nodiscard]] std::optional<int> rewound(std::size_t i) const { return sequences_[i].rewound; }

  /// The engine learns of a rewind before its next step: the host needs no telling.
  void go_back(std::size_t i) { truncate_device(i, sequences_[i].rewound.value()); }

  void pin(std::size_t i, std::vector<TokenRange> const& ranges) {
    host_->pin(sequences_[i].host, ranges);
    device_.pin_async(sequences_[i].device, ranges, stream_);
  }

  void set_shares(std::size_t i, std::vector<float> const& shares) {
    host_->set_shares(sequences_[i].host, shares);
    device_.set_shares_async(sequences_[i].device, shares, stream_);
  }

  /// All rows of both are exact.
  void thaw(std::size_t i) {
    host_->thaw(sequences_[i].host);
    device_.thaw_async(sequences_[i].device, stream_);
    compare_fidelities(i, device_.length(sequences_[i].device));
    compare_rows(i);
  }

  /// Are the rows that the device gives back those that it was given, bit for bit? Where they may
  /// be gone it gives none.
  void compare_rows(std::size_t i) {
    for (int layer = 0; layer < shape_.layers; ++layer) {
      compare_rows(i, layer);
    }
  }

  /// K of the sequence's tokens, by layer: [tokens][kv_heads][head_dim].
  [[nodiscard]] std::vector<std::vector<float>> const& keys(std::size_t i) const {
    return sequences_[i].k;
  }

  [[nodiscard]] std::vector<std::vector<float>> const& values(std::size_t i) const {
    return sequences_[i].v;
  }

  [[nodiscard]] Device& device() noexcept { return device_; }

  [[nodiscard]] Stream const& stream() const noexcept { return stream_; }

  [[nodiscard]] Sequence handle(std::size_t i) const { return sequences_[i].device; }

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
      copy_to(graph_.q[i], rows[i].q);
      copy_to(graph_.k[i], rows[i].k);
      copy_to(graph_.v[i], rows[i].v);
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
    auto const q = filled(rows * static_cast<std::size_t>(shape_.query_heads), 0.5F);
    auto const k = filled(rows * static_cast<std::size_t>(shape_.kv_heads), 0.25F);
    DeviceArray<float> const out(q.size());
    return test::count(stream_, [&] {
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
    Graph step;
    std::vector<DeviceArray<float>> q;
    std::vector<DeviceArray<float>> k;
    std::vector<DeviceArray<float>> v;
    std::vector<DeviceArray<float>> out;
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
    std::vector<std::vector<float>> k;  ///< of the tokens that it has, by layer
    std::vector<std::vector<float>> v;
    std::optional<int> rewound;  ///< the engine has not gone back to this length yet
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
    for (std::size_t const i : batch) {
      Rows one;
      next_token(i, layer, one);
      one.expected.resize(one.q.size());
      host_->attend(sequences_[i].host, layer, one.q, one.k, one.v, one.expected);
      append(rows.q, one.q);
      append(rows.k, one.k);
      append(rows.v, one.v);
      append(rows.expected, one.expected);
    }
    return rows;
  }

  static void append(std::vector<float>& all, std::vector<float> const& more) {
    all.insert(all.end(), more.begin(), more.end());
  }

  /// The rows that the sequence was given from `length` on are forgotten.
  void forget(std::size_t i, int length) {
    auto const width = static_cast<std::size_t>(length) *
                       static_cast<std::size_t>(shape_.kv_heads * shape_.head_dim);
    for (int layer = 0; layer < shape_.layers; ++layer) {
      sequences_[i].k[static_cast<std::size_t>(layer)].resize(width);
      sequences_[i].v[static_cast<std::size_t>(layer)].resize(width);
    }
  }

  void truncate_device(std::size_t i, int length) {
    Pair& sequence = sequences_[i];
    device_.truncate_async(sequence.device, length, stream_);
    sequence.rewound.reset();
    forget(i, length);
    REQUIRE(device_.length(sequence.device) == length);
    REQUIRE(!device_.report(sequence.device).rewind_to);
    compare_fidelities(i, length);
    compare_rows(i);
  }

  /// Adds a sequence's next token to the rows of a step.
  void next_token(std::size_t i, int layer, Rows& rows) {
    auto const at = static_cast<std::size_t>(layer);
    Rows one;
    sequences_[i].models[at].step(one.q, one.k, one.v);
    append(rows.q, one.q);
    append(rows.k, one.k);
    append(rows.v, one.v);
    append(sequences_[i].k[at], one.k);
    append(sequences_[i].v[at], one.v);
  }

  void compare_rows(std::size_t i, int layer) {
    using Value = typename Device::element_type;
    if constexpr (gives_rows<Device>) {
      compare_given_rows<Value>(i, layer);
    }
  }

  template <class Value>
  void compare_given_rows(std::size_t i, int layer) {
    auto const at = static_cast<std::size_t>(layer);
    std::vector<float> const& k = sequences_[i].k[at];
    std::vector<float> const& v = sequences_[i].v[at];
    DeviceArray<Value> const found_k(k.size());
    DeviceArray<Value> const found_v(v.size());
    device_.gather_async(sequences_[i].device, layer, found_k.span(), found_v.span(), stream_);
    auto const equal = [&](DeviceArray<Value> const& found, std::vector<float> const& given) {
      auto const values = download(found, stream_);
      return std::equal(values.begin(), values.end(), given.begin(), [](Value a, float b) {
        return to_float(a) == to_float(from_float<Value>(b));
      });
    };
    REQUIRE(equal(found_k, k));
    REQUIRE(equal(found_v, v));
  }

  void compare_outputs(int layer, Rows const& rows, DeviceArray<float> const& out) const {
    auto const found = download(out, stream_);
    float worst = 0.0F;
    for (std::size_t i = 0; i < found.size(); ++i) {
      worst = std::max(worst, std::fabs(found[i] - rows.expected[i]));
    }
    INFO("layer " << layer);
    REQUIRE(worst < 2e-5F);
  }

  /// @return whether a trigger asked for recovery
  bool compare_steps(std::vector<std::size_t> const& batch, std::vector<float> const& logits = {}) {
    stream_.wait();
    bool recovered = false;
    std::span<float const> left = logits;
    for (std::size_t const i : batch) {
      auto const own = left.first(logits.size() / batch.size());
      left = left.subspan(own.size());
      StepReport const expected = host_->advance(sequences_[i].host, own);
      compare(i, expected);
      recovered = recovered || expected.recovery != Recovery::none;
    }
    return recovered;
  }

  void compare(std::size_t i, StepReport const& expected, bool moves = true) {
    StepReport const found = device_.report(sequences_[i].device);
    INFO("sequence " << i << ", step " << expected.step);
    REQUIRE(found.step == expected.step);
    REQUIRE(found.length == expected.length);
    REQUIRE(found.has_logits == expected.has_logits);
    REQUIRE(std::fabs(found.entropy - expected.entropy) < 1e-5F);
    if (expected.rewind_to) {
      std::optional<int>& rewound = sequences_[i].rewound;
      rewound = std::min(*expected.rewind_to, rewound.value_or(*expected.rewind_to));
      forget(i, *expected.rewind_to);
    }
    REQUIRE(found.rewind_to == sequences_[i].rewound);
    compare_fidelities(i, expected.length);
    REQUIRE(found.rows == expected.rows);
    REQUIRE(found.missed_mass == expected.missed_mass);
    REQUIRE(found.missed_mass_max == expected.missed_mass_max);
    REQUIRE(found.thawed_rows == expected.thawed_rows);
    REQUIRE(found.frozen_rows == expected.frozen_rows);
    REQUIRE((!moves || found.moved_in_bytes == expected.moved_in_bytes));
    REQUIRE(found.recovery == expected.recovery);
    REQUIRE(found.touched_bytes > 0);
  }

  void compare_fidelities(std::size_t i, int length) {
    std::vector<Fidelity> host_rows(static_cast<std::size_t>(length));
    // More than there are, if steps count for nothing.
    int const told = device_.length(sequences_[i].device);
    REQUIRE((sequences_[i].rewound ? told > length : told == length));
    std::vector<Fidelity> device_rows(static_cast<std::size_t>(told));
    for (int layer = 0; layer < shape_.layers; ++layer) {
      for (int lane = 0; lane < device_.lanes_per_layer(); ++lane) {
        host_->fidelities(sequences_[i].host, layer, lane, host_rows);
        device_.fidelities(sequences_[i].device, layer, lane, device_rows, stream_);
        INFO("layer " << layer << ", lane " << lane);
        auto const different =
            std::mismatch(host_rows.begin(), host_rows.end(), device_rows.begin());
        if (different.first != host_rows.end()) {
          INFO("row " << different.first - host_rows.begin() << ": host "
                      << static_cast<int>(*different.first) << ", device "
                      << static_cast<int>(*different.second));
          FAIL("another fidelity");
        }
      }
    }
  }

  Shape shape_;
  Stream stream_;
  std::unique_ptr<HostTwin> host_;
  Device device_;
  std::vector<Pair> sequences_;
  Captured graph_;
};

/// Decodes tokens of one sequence on both sides.
template <class Twins>
void decode(Twins& twins, std::size_t sequence, int steps) {
  for (int i = 0; i < steps; ++i) {
    twins.step({sequence});
  }
}

/// The same, of a new sequence. @return its number
template <class Twins>
std::size_t decode_new(Twins& twins, int steps, unsigned seed) {
  std::size_t const sequence = twins.open(seed);
  decode(twins, sequence, steps);
  return sequence;
}

/// Three sequences that come and go, in batches of different lengths.
template <class Device>
void come_and_go(Twins<Device>& twins) {
  std::size_t const first = twins.open(10);
  for (int i = 0; i < 90; ++i) {
    twins.step({first});
  }
  std::size_t const second = twins.open(20);
  std::size_t const third = twins.open(30);
  bool const brief = kvfreeze_test::short_tests();
  for (int i = 0; i < (brief ? 30 : 80); ++i) {
    twins.step({second, first});
    twins.step({third});
  }
  twins.close(first);
  std::size_t const fourth = twins.open(40);
  for (int i = 0; i < (brief ? 30 : 70); ++i) {
    twins.step({fourth, second, third});
  }
}

/// A captured step serves later ones of one batch and of another.
template <class Device>
void replay_by_turns(Twins<Device>& twins) {
  std::size_t const first = twins.open(11);
  std::size_t const second = twins.open(12);
  std::size_t const third = twins.open(13);
  for (int i = 0; i < 20; ++i) {
    twins.step({first});
  }
  for (int i = 0; i < (kvfreeze_test::short_tests() ? 40 : 100); ++i) {
    twins.replay({first, second});
    if (i % 2 == 0) {
      twins.replay({third, first});
    }
  }
  twins.step({second, third});
}

/// @brief Is a step of the `small` shape so many launches, and nothing else?
/// @param slow_clock launches for the whole model
template <class Device>
void check_launches(Twins<Device>& twins, std::size_t sequence, unsigned per_layer,
                    unsigned slow_clock = 3) {
  auto const counted = twins.count({sequence});
  if (!counted) {
    WARN("nobody counts launches here");
    return;
  }
  CHECK(counted->kernel_launches == 1 + per_layer * small.layers + slow_clock);
  CHECK(counted->host_syncs == 0);
  CHECK(counted->mallocs + counted->async_mallocs + counted->host_allocs == 0);
  CHECK(counted->copies_h2d + counted->copies_d2h == 0);
  CHECK(counted->memsets == 0);
}

}  // namespace kvfreeze::gpu::test
