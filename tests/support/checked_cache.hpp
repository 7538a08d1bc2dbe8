#pragma once

/// @file
/// @brief A cache beside its reference: feeds both, compares after every call.

#include <kvfreeze/host/merge.hpp>
#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/scheduler/keep_all_scheduler.hpp>
#include <kvfreeze/scorer/recency_scorer.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>

#include "../laws/random.hpp"
#include "coded_rows.hpp"
#include "reference_cache.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

namespace kvfreeze_test {

using kvfreeze::laws::Random;

/// K, V and Q of some tokens of one layer, and where the answer goes.
struct LayerInput {
  std::vector<float> k, v, q, out;
};

/// @brief Inputs that look like a model's: keys near a few centres, queries that seek one of them,
/// so that attention is peaked and its peaks wander.
class InputStream {
 public:
  InputStream(kvfreeze::Shape const& shape, std::uint64_t seed) : shape_(shape), random_(seed) {
    centres_.resize(static_cast<std::size_t>(8 * shape.head_dim));
    for (float& x : centres_) {
      x = normal() * 1.5F;
    }
  }

  LayerInput next(int tokens) {
    auto const n = static_cast<std::size_t>(tokens);
    auto const dim = static_cast<std::size_t>(shape_.head_dim);
    LayerInput input;
    input.k = around(n * static_cast<std::size_t>(shape_.kv_heads), dim, 1.0F);
    input.q = around(n * static_cast<std::size_t>(shape_.query_heads), dim, 2.0F);
    input.v.resize(input.k.size());
    for (float& x : input.v) {
      x = normal();
    }
    input.out.assign(input.q.size(), std::nanf(""));
    return input;
  }

 private:
  float normal() {
    return random_.uniform() + random_.uniform() + random_.uniform() + random_.uniform() - 2.0F;
  }

  std::vector<float> around(std::size_t vectors, std::size_t dim, float gain) {
    std::vector<float> out(vectors * dim);
    for (std::size_t i = 0; i < vectors; ++i) {
      std::size_t const centre = random_() % 8U;
      for (std::size_t d = 0; d < dim; ++d) {
        out[i * dim + d] = gain * (centres_[centre * dim + d] + normal());
      }
    }
    return out;
  }

  kvfreeze::Shape shape_;
  Random random_;
  std::vector<float> centres_;
};

/// The plain cache of the same layout, without compact rows.
template <class Cache>
using PlainOf = kvfreeze::KvFreezeCache<
    kvfreeze::Layout<typename Cache::element_type, Cache::layout_type::page_tokens,
                     Cache::layout_type::grouping>,
    kvfreeze::RecencyScorer, kvfreeze::KeepAllScheduler, kvfreeze::InPlaceTier,
    kvfreeze::NeverTrigger>;

/// @brief What the rounding of queries to 8 bits may change in an output, as a share of the size of
/// the values.
inline constexpr double coded_tolerance = 0.2;

template <class Cache>
inline constexpr bool keeps_rows = kvfreeze::detail::is_lossless<typename Cache::tier_type>();

/// Fidelities of all lanes of a sequence, layer by layer.
template <class Cache>
std::vector<kvfreeze::Fidelity> all_fidelities(Cache const& cache, kvfreeze::Sequence sequence) {
  auto const length = static_cast<std::size_t>(cache.length(sequence));
  std::vector<kvfreeze::Fidelity> all;
  std::vector<kvfreeze::Fidelity> one(length);
  for (int layer = 0; layer < cache.shape().layers; ++layer) {
    for (int lane = 0; lane < cache.lanes_per_layer(); ++lane) {
      cache.fidelities(sequence, layer, lane, one);
      all.insert(all.end(), one.begin(), one.end());
    }
  }
  return all;
}

/// One sequence of a cache and its reference.
template <class Cache>
class CheckedSequence {
 public:
  using T = typename Cache::element_type;

  CheckedSequence(Cache& cache, std::uint64_t seed)
      : cache_(&cache),
        handle_(cache.open()),
        input_(cache.shape(), seed),
        reference_(cache.shape()),
        coded_(cache, handle_, reference_) {}

  /// @brief A copy of another sequence, which it was forked from or saved as: the same rows, the
  /// same inputs to come.
  /// @param cache it is in now; the reference goes with it
  CheckedSequence(CheckedSequence const& other, Cache& cache, kvfreeze::Sequence handle)
      : cache_(&cache),
        handle_(handle),
        input_(other.input_),
        reference_(other.reference_),
        coded_(cache, handle_, reference_),
        pins_(other.pins_),
        pins_since_(other.pins_since_),
        recalled_since_pin_(other.recalled_since_pin_),
        truncated_(other.truncated_),
        survives_(other.survives_),
        length_(other.length_) {}

  CheckedSequence(CheckedSequence const&) = delete;
  CheckedSequence& operator=(CheckedSequence const&) = delete;

  [[nodiscard]] kvfreeze::Sequence handle() const { return handle_; }

  /// From now on inputs of its own.
  void diverge(std::uint64_t seed) { input_ = InputStream(cache_->shape(), seed); }

  [[nodiscard]] int length() const { return length_; }

  [[nodiscard]] ReferenceCache<T> const& reference() const { return reference_; }

  void close() { cache_->close(handle_); }

  /// @brief How far single tokens' outputs were from attention over all rows, exact: root mean
  /// square, as a share of that of the values.
  [[nodiscard]] double mean_error() const {
    return squares_.outputs == 0.0 ? 0.0 : std::sqrt(squares_.errors / squares_.outputs);
  }

  /// Single tokens' outputs that were compared with what the codes say.
  [[nodiscard]] int predicted() const { return predicted_; }

  /// From now on calls that fail in the tier are repeated, after a look at what they left behind.
  void survive_faults() { survives_ = true; }

  /// TierErrors seen.
  [[nodiscard]] int faults() const { return faults_; }

  /// One step through attend(). @return the report of advance()
  kvfreeze::StepReport attend(int tokens, std::span<float const> logits = {},
                              kvfreeze::Part part = {}) {
    for (int layer = 0; layer < cache_->shape().layers; ++layer) {
      LayerInput input = input_.next(tokens);
      reference_.append(layer, input.k, input.v);
      Rungs before(static_cast<std::size_t>(cache_->lanes_per_layer()));
      for (int index = 0; index < part.count; ++index) {
        retry(layer, [&] {
          note_rungs(before, layer, {index, part.count}, length_);
          cache_->attend(handle_, layer, input.q, input.k, input.v, input.out, {index, part.count});
        });
      }
      if constexpr (has_compact_rows<Cache>) {
        if (tokens == 1) {
          Rungs after(before.size());
          note_rungs(after, layer, {}, length_ + 1);
          check_coded_output(layer, input, before, after);
        }
      }
      check_outputs(layer, input, tokens);
    }
    recalled_since_pin_ = recalled_since_pin_ || tokens == 1;
    return advance(tokens, logits);
  }

  /// One step as an engine with an attention of its own takes it.
  kvfreeze::StepReport append_and_observe(int tokens, int evidence,
                                          std::span<float const> logits = {}) {
    auto const& shape = cache_->shape();
    for (int layer = 0; layer < shape.layers; ++layer) {
      LayerInput const input = input_.next(tokens);
      reference_.append(layer, input.k, input.v);
      retry(layer, [&] { cache_->append(handle_, layer, input.k, input.v); });
      auto const width = static_cast<std::size_t>(shape.query_heads * shape.head_dim);
      std::span<float const> const last(input.q.data() + input.q.size() - width, width);
      retry(layer, [&] { cache_->recall(handle_, layer, last); });
      check_rows(layer);
      if constexpr (has_compact_rows<Cache>) {
        check_partial(layer, last);
      }
      auto const [lse, weights] = foreign_attention(layer, last.data());
      cache_->observe(handle_, layer, last, evidence == 1 ? lse : std::vector<float>{},
                      evidence == 2 ? weights : std::vector<float>{});
    }
    recalled_since_pin_ = true;
    return advance(tokens, logits);
  }

  void truncate(int length) {
    retry(0, [&] { cache_->truncate(handle_, length); });
    rewound(length);
  }

  /// Follows a rewalk or truncation that already happened.
  void rewound(int length) {
    reference_.truncate(length);
    coded_.forget();
    length_ = length;
    truncated_ = true;
    pins_since_ = std::min(pins_since_, length);
    check();
    check_protected();
  }

  void pin(std::vector<kvfreeze::TokenRange> ranges) {
    cache_->pin(handle_, ranges);
    pins_ = std::move(ranges);
    pins_since_ = length_;
    recalled_since_pin_ = false;
  }

  void thaw() {
    retry(0, [&] { cache_->thaw(handle_); });
    check();
    if (keeps_rows<Cache>) {
      auto const lanes = static_cast<std::uint64_t>(cache_->shape().layers) *
                         static_cast<std::uint64_t>(cache_->lanes_per_layer());
      REQUIRE(cache_->rows(handle_).exact == lanes * static_cast<std::uint64_t>(length_));
    }
  }

  /// @brief Thaws, then takes a step beside a plain cache that was fed the same: same bits. A
  /// single token of a uniformly quantised cache is attended through codes all the same.
  void thaw_and_compare(int tokens) {
    thaw();
    auto const& shape = cache_->shape();
    kvfreeze::Limits limits;
    limits.max_tokens = cache_->limits().max_tokens;
    limits.max_sequences = 1;
    PlainOf<Cache> plain(shape, limits);
    auto const other = plain.open();
    auto const row = static_cast<std::size_t>(shape.kv_heads * shape.head_dim);
    for (int layer = 0; layer < shape.layers && length_ > 0; ++layer) {
      std::vector<float> k(static_cast<std::size_t>(length_) * row);
      std::vector<float> v(k.size());
      for (std::size_t i = 0; i < k.size(); ++i) {
        k[i] = kvfreeze::to_float(reference_.k(layer, 0, 0)[i]);
        v[i] = kvfreeze::to_float(reference_.v(layer, 0, 0)[i]);
      }
      plain.append(other, layer, k, v);
    }
    if (length_ > 0) {
      plain.advance(other);
    }
    for (int layer = 0; layer < shape.layers; ++layer) {
      LayerInput input = input_.next(tokens);
      reference_.append(layer, input.k, input.v);
      std::vector<float> expected(input.out.size());
      cache_->attend(handle_, layer, input.q, input.k, input.v, input.out);
      plain.attend(other, layer, input.q, input.k, input.v, expected);
      if (tokens > 1 || !kvfreeze::detail::is_uniform<typename Cache::scheduler_type>()) {
        REQUIRE(input.out == expected);
      }
    }
    advance(tokens, {});
  }

  /// All that must hold between two steps.
  void check() {
    REQUIRE(cache_->length(handle_) == length_);
    for (int layer = 0; layer < cache_->shape().layers; ++layer) {
      check_rows(layer);
    }
    auto const counts = cache_->rows(handle_);
    auto const lanes = static_cast<std::uint64_t>(cache_->shape().layers) *
                       static_cast<std::uint64_t>(cache_->lanes_per_layer());
    REQUIRE(counts.total() == lanes * static_cast<std::uint64_t>(length_));
    REQUIRE((keeps_rows<Cache> ? counts.evicted : counts.frozen + counts.asleep) == 0);
    REQUIRE((has_compact_rows<Cache> || counts.compact == 0));
    auto const all = all_fidelities(*cache_, handle_);
    for (auto const& [fidelity, count] : {std::pair{kvfreeze::Fidelity::exact, counts.exact},
                                          std::pair{kvfreeze::Fidelity::compact, counts.compact},
                                          std::pair{kvfreeze::Fidelity::frozen, counts.frozen},
                                          std::pair{kvfreeze::Fidelity::asleep, counts.asleep},
                                          std::pair{kvfreeze::Fidelity::evicted, counts.evicted}}) {
      REQUIRE(static_cast<std::uint64_t>(std::count(all.begin(), all.end(), fidelity)) == count);
    }
    REQUIRE(cache_->ledger().resident() <= resident_limit());
  }

  /// Where the protected rows must be exact; after a step they must.
  void check_protected() const {
    auto const all = all_fidelities(*cache_, handle_);
    auto const& limits = cache_->limits();
    for (std::size_t i = 0; i < all.size(); ++i) {
      int const position = static_cast<int>(i % static_cast<std::size_t>(length_));
      bool kept = position < limits.sinks ||
                  (position >= length_ - limits.window && (keeps_rows<Cache> || !truncated_));
      for (kvfreeze::TokenRange const& pin : pins_) {
        kept =
            kept ||
            (position >= pin.begin && position < pin.end &&
             (position >= pins_since_ || (keeps_rows<Cache> && recalled_since_pin_ && !limited())));
      }
      if (kept && all[i] != kvfreeze::Fidelity::exact) {
        CAPTURE(position, length_, static_cast<int>(all[i]));
        REQUIRE(all[i] == kvfreeze::Fidelity::exact);
      }
    }
  }

 private:
  [[nodiscard]] bool limited() const {
    return cache_->limits().transfer_bytes != kvfreeze::unlimited ||
           cache_->limits().resident_bytes != kvfreeze::unlimited;
  }

  [[nodiscard]] std::size_t resident_limit() const {
    return kvfreeze::detail::tier_kind<typename Cache::tier_type>() == kvfreeze::TierKind::in_place
               ? kvfreeze::unlimited
               : cache_->limits().resident_bytes;
  }

  kvfreeze::StepReport advance(int tokens, std::span<float const> logits) {
    kvfreeze::StepReport report;
    try {
      report = cache_->advance(handle_, logits);
    } catch (kvfreeze::TierError const&) {
      REQUIRE(survives_);
      faults_ += 1;  // the step is finished all the same
      length_ += tokens;
      check();
      check_protected();
      return report;
    }
    length_ += tokens;
    if (report.rewind_to) {
      REQUIRE(report.length == *report.rewind_to);
      rewound(*report.rewind_to);
    } else {
      REQUIRE(report.length == length_);
      check();
      check_protected();
    }
    REQUIRE(report.rows == cache_->rows(handle_));
    REQUIRE(report.ledger == cache_->ledger());
    return report;
  }

  template <class Call>
  void retry(int layer, Call const& call) {
    for (int attempt = 0;; ++attempt) {
      try {
        call();
        return;
      } catch (kvfreeze::TierError const&) {
        REQUIRE((survives_ && attempt < 1000));
        faults_ += 1;
        check_rows(layer);
        REQUIRE(cache_->ledger().resident() <= resident_limit());
      }
    }
  }

  // View and gather hold rows of the reference, bit for bit, in position order.
  void check_rows(int layer) {
    auto const& shape = cache_->shape();
    int const heads = shape.kv_heads / cache_->lanes_per_layer();
    auto const dim = static_cast<std::size_t>(shape.head_dim);
    for (int lane = 0; lane < cache_->lanes_per_layer(); ++lane) {
      auto const view = cache_->view(handle_, layer, lane);
      REQUIRE(view.rows() == cache_->exact_rows(handle_, layer, lane));
      REQUIRE(view.heads == heads);
      std::vector<int> const positions(view.positions.begin(), view.positions.end());
      REQUIRE(std::is_sorted(positions.begin(), positions.end(), std::less_equal<>()));
      REQUIRE((positions.empty() ||
               (positions.front() >= 0 && positions.back() < reference_.length(layer))));
      auto const width = dim * static_cast<std::size_t>(heads);
      bool same = true;
      for (int i = 0; i < view.rows(); ++i) {
        for (int head = 0; head < heads; ++head) {
          int const position = positions[static_cast<std::size_t>(i)];
          same = same &&
                 std::memcmp(view.k(i, head), reference_.k(layer, lane * heads + head, position),
                             dim * sizeof(T)) == 0 &&
                 std::memcmp(view.v(i, head), reference_.v(layer, lane * heads + head, position),
                             dim * sizeof(T)) == 0;
        }
      }
      REQUIRE(same);
      auto const rows = static_cast<std::size_t>(view.rows());
      std::vector<T> k(rows * width);
      std::vector<T> v(rows * width);
      std::vector<std::int32_t> gathered(rows);
      REQUIRE(cache_->gather(handle_, layer, lane, k, v, gathered) == static_cast<int>(rows));
      REQUIRE(gathered == positions);
      for (std::size_t i = 0; i < rows && same; ++i) {
        int const head = lane * heads;
        same = std::memcmp(k.data() + i * width, reference_.k(layer, head, gathered[i]),
                           width * sizeof(T)) == 0 &&
               std::memcmp(v.data() + i * width, reference_.v(layer, head, gathered[i]),
                           width * sizeof(T)) == 0;
      }
      REQUIRE(same);
    }
  }

  using Rungs = std::vector<std::vector<int>>;  // [lane of a layer][row]

  void note_rungs(Rungs& rungs, int layer, kvfreeze::Part part, int rows) {
    if constexpr (has_compact_rows<Cache>) {
      int const lanes = cache_->lanes_per_layer();
      for (int lane = part.index; lane < lanes; lane += part.count) {
        rungs[static_cast<std::size_t>(lane)] =
            lane_rungs(*cache_, handle_, layer * lanes + lane, rows);
      }
    }
  }

  // One query's attention, each row taken at its rung; those asleep do not count.
  std::vector<double> coded_attention(int layer, int head, float const* q,
                                      std::vector<int> const& rungs) {
    auto const dim = static_cast<std::size_t>(cache_->shape().head_dim);
    std::vector<double> logits;
    std::vector<std::vector<float>> values;
    for (std::size_t i = 0; i < rungs.size(); ++i) {
      int const row = static_cast<int>(i);
      int const at = rungs[i];
      if (at < 0) {
        continue;
      }
      if (at == rung::exact<Cache>) {
        logits.push_back(reference_.logit(layer, head, row, q));
        T const* const v = reference_.v(layer, head, row);
        std::transform(v, v + dim, std::back_inserter(values.emplace_back()),
                       [](T x) { return kvfreeze::to_float(x); });
      } else {
        logits.push_back(reference_.logit(coded_.key(layer, head, row, at), q));
        float const* const v = coded_.value(layer, head, row, at);
        values.emplace_back(v, v + dim);
      }
    }
    double const highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    std::vector<double> out(dim);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      double const weight = std::exp(logits[i] - highest);
      sum += weight;
      for (std::size_t d = 0; d < dim; ++d) {
        out[d] += weight * static_cast<double>(values[i][d]);
      }
    }
    for (double& x : out) {
      x /= sum;
    }
    return out;
  }

  // Root mean square of the values of a KV head.
  [[nodiscard]] double value_size(int layer, int head) const {
    double sum = 0.0;
    int const rows = reference_.length(layer);
    int const dim = cache_->shape().head_dim;
    for (int row = 0; row < rows; ++row) {
      for (int d = 0; d < dim; ++d) {
        double const x = static_cast<double>(kvfreeze::to_float(reference_.v(layer, head, row)[d]));
        sum += x * x;
      }
    }
    return std::sqrt(sum / (static_cast<double>(rows) * dim));
  }

  // A row that rose is attended exactly, one that sank as it was before: what the codes say, but
  // for the queries' rounding to 8 bits. Under a cap rows may sink before they are attended.
  void check_coded_output(int layer, LayerInput const& input, Rungs const& before,
                          Rungs const& after) {
    using Scheduler = typename Cache::scheduler_type;
    auto const& shape = cache_->shape();
    auto const dim = static_cast<std::size_t>(shape.head_dim);
    int const group = shape.query_heads / shape.kv_heads;
    bool const predictable = !kvfreeze::detail::has_sleep<Scheduler>() &&
                             cache_->limits().resident_bytes == kvfreeze::unlimited;
    for (int head = 0; head < shape.query_heads; ++head) {
      auto const lane =
          static_cast<std::size_t>(head * cache_->lanes_per_layer() / shape.query_heads);
      std::vector<int> rungs = after[lane];
      for (std::size_t i = 0; !kvfreeze::detail::is_uniform<Scheduler>() && i < before[lane].size();
           ++i) {
        rungs[i] = after[lane][i] > before[lane][i] ? rung::exact<Cache> : before[lane][i];
      }
      float const* const q = input.q.data() + static_cast<std::size_t>(head) * dim;
      float const* const out = input.out.data() + static_cast<std::size_t>(head) * dim;
      auto const full = coded_attention(layer, head / group, q,
                                        std::vector<int>(rungs.size(), rung::exact<Cache>));
      auto const coded = coded_attention(layer, head / group, q, rungs);
      double const size = value_size(layer, head / group);
      double error = 0.0;
      double difference = 0.0;
      double sum = 0.0;
      for (std::size_t d = 0; d < dim; ++d) {
        auto const x = static_cast<double>(out[d]);
        error += (x - full[d]) * (x - full[d]);
        difference += (x - coded[d]) * (x - coded[d]);
        sum += x * x;
      }
      squares_.errors += error;
      squares_.outputs += size * size * static_cast<double>(dim);
      REQUIRE(std::sqrt(sum / static_cast<double>(dim)) < 8.0 * size);  // also if NaN
      if (predictable) {
        CAPTURE(layer, head, length_);
        REQUIRE(std::sqrt(difference / static_cast<double>(dim)) < coded_tolerance * size);
        predicted_ += 1;
      }
    }
  }

  // Attention over view() joined with partial() is attention over exact and compact rows.
  void check_partial(int layer, std::span<float const> q) {
    auto const& shape = cache_->shape();
    auto const dim = static_cast<std::size_t>(shape.head_dim);
    auto const heads = static_cast<std::size_t>(shape.query_heads);
    int const group = shape.query_heads / shape.kv_heads;
    std::vector<float> out(q.size(), std::nanf(""));
    std::vector<float> lse(heads, std::nanf(""));
    cache_->partial(handle_, layer, q, out, lse);
    Rungs rungs(static_cast<std::size_t>(cache_->lanes_per_layer()));
    note_rungs(rungs, layer, {}, reference_.length(layer));
    auto [view_lse, weights] = foreign_attention(layer, q.data());
    std::vector<float> view_out(q.size());
    for (int head = 0; head < shape.query_heads; ++head) {
      int const lane = head * cache_->lanes_per_layer() / shape.query_heads;
      auto const view = cache_->view(handle_, layer, lane);
      auto const exact =
          reference_.attention(layer, head / group, q.data() + static_cast<std::size_t>(head) * dim,
                               std::vector<int>(view.positions.begin(), view.positions.end()));
      std::transform(exact.begin(), exact.end(), view_out.begin() + head * shape.head_dim,
                     [](double x) { return static_cast<float>(x); });
    }
    kvfreeze::host::merge(view_out, view_lse, out, lse, out, lse);
    for (int head = 0; head < shape.query_heads; ++head) {
      auto attended =
          rungs[static_cast<std::size_t>(head * cache_->lanes_per_layer() / shape.query_heads)];
      for (int& at : attended) {
        at = at == rung::frozen ? rung::asleep : at;
      }
      auto const expected = coded_attention(
          layer, head / group, q.data() + static_cast<std::size_t>(head) * dim, attended);
      double difference = 0.0;
      for (std::size_t d = 0; d < dim; ++d) {
        double const x = static_cast<double>(out[static_cast<std::size_t>(head) * dim + d]);
        difference += (x - expected[d]) * (x - expected[d]);
      }
      REQUIRE(std::sqrt(difference / static_cast<double>(dim)) <
              coded_tolerance * value_size(layer, head / group));
    }
  }

  void check_outputs(int layer, LayerInput const& input, int tokens) {
    check_rows(layer);
    if (has_compact_rows<Cache> && tokens == 1) {
      return;  // check_coded_output() has been there
    }
    auto const& shape = cache_->shape();
    bool const all_rows =
        keeps_rows<Cache> && cache_->limits().transfer_bytes == kvfreeze::unlimited;
    int const group = shape.query_heads / shape.kv_heads;
    auto const dim = static_cast<std::size_t>(shape.head_dim);
    double worst = 0.0;
    for (int lane = 0; lane < cache_->lanes_per_layer(); ++lane) {
      auto const view = cache_->view(handle_, layer, lane);
      std::vector<int> exact(view.positions.begin(), view.positions.end());
      int const heads = shape.query_heads / cache_->lanes_per_layer();
      for (int h = lane * heads; h < (lane + 1) * heads; ++h) {
        for (int token = 0; token < tokens; ++token) {
          auto const at =
              (static_cast<std::size_t>(token * shape.query_heads) + static_cast<std::size_t>(h)) *
              dim;
          std::vector<int> positions = exact;
          if (tokens > 1) {
            positions.resize(static_cast<std::size_t>(length_ + token + 1));
            for (std::size_t i = 0; i < positions.size(); ++i) {
              positions[i] = static_cast<int>(i);
            }
          }
          auto const expected =
              reference_.attention(layer, h / group, input.q.data() + at, positions);
          for (std::size_t d = 0; d < dim; ++d) {
            double const error = std::fabs(expected[d] - static_cast<double>(input.out[at + d]));
            worst = !(error <= worst) ? error : worst;
            if (tokens > 1 && !all_rows) {
              worst = std::isfinite(input.out[at + d]) ? 0.0 : std::nan("");
            }
          }
        }
      }
    }
    REQUIRE(worst < 2e-4);
  }

  // What a foreign kernel exports: log-sum-exp and weights over the rows of the views.
  std::pair<std::vector<float>, std::vector<float>> foreign_attention(int layer, float const* q) {
    auto const& shape = cache_->shape();
    std::vector<float> lse;
    std::vector<float> weights;
    for (int lane = 0; lane < cache_->lanes_per_layer(); ++lane) {
      auto const view = cache_->view(handle_, layer, lane);
      int const heads = shape.query_heads / cache_->lanes_per_layer();
      for (int h = lane * heads; h < (lane + 1) * heads; ++h) {
        std::vector<double> logits;
        for (int const position : view.positions) {
          logits.push_back(reference_.logit(layer, h / (shape.query_heads / shape.kv_heads),
                                            position, q + h * shape.head_dim));
        }
        double const highest = *std::max_element(logits.begin(), logits.end());
        double sum = 0.0;
        for (double const logit : logits) {
          sum += std::exp(logit - highest);
        }
        lse.push_back(static_cast<float>(highest + std::log(sum)));
        for (double const logit : logits) {
          weights.push_back(static_cast<float>(std::exp(logit - highest) / sum));
        }
      }
    }
    return {std::move(lse), std::move(weights)};
  }

  Cache* cache_;
  kvfreeze::Sequence handle_;
  InputStream input_;
  ReferenceCache<T> reference_;
  CodedRows<Cache> coded_;

  struct {
    double errors = 0.0;
    double outputs = 0.0;
  } squares_;

  int predicted_ = 0;
  std::vector<kvfreeze::TokenRange> pins_;
  int pins_since_ = 0;
  bool recalled_since_pin_ = true;
  bool truncated_ = false;  // evicted rows do not come back into a window that moves backwards
  bool survives_ = false;
  int faults_ = 0;
  int length_ = 0;
};

}  // namespace kvfreeze_test
