#pragma once

/// @file
/// @brief Lanes of logits on the device, and what the host backend makes of the same ones.

#include <kvfreeze/gpu/detail/coded_logits.cuh>
#include <kvfreeze/gpu/masses.cuh>
#include <kvfreeze/host/kernels/known_weights.hpp>
#include <kvfreeze/host/lane.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <limits>
#include <random>
#include <span>
#include <vector>

namespace kvfreeze::gpu::test {

/// Other contents of an array, on the device when this returns.
template <class T>
void replace(DeviceArray<T> const& array, std::vector<T> const& values, Stream const& stream) {
  check(cudaMemcpyAsync(array.data(), values.data(), array.size_bytes(), cudaMemcpyHostToDevice,
                        stream.get()),
        "replace");
  stream.wait();
}

/// How the logits of a lane are distributed.
enum class Logits : std::uint8_t {
  normal,   ///< as attention's are
  equal,    ///< all the same
  nothing,  ///< one head has minus infinity only
  far,      ///< far below the largest, many at the edge of what weighs
  zeros,    ///< zeros of both signs
};

/// One run of a lane.
struct RunShape {
  int rows = 0;
  bool frozen_only = false;  ///< states say who takes part
  bool is_listed = false;    ///< granules at positions of their own, some of them protected
  bool by_row = false;       ///< logits of a row lie side by side; of those without states only
};

/// One lane: its runs and their logits.
struct LaneShape {
  Logits logits = Logits::normal;
  std::vector<RunShape> runs;
};

/// What the host makes of a lane.
struct LaneAnswer {
  std::vector<std::vector<Mass>> masses;  ///< by run and granule
  std::vector<float> highest, lse, first_weights;
  host::LogHistogram histogram;
  std::uint64_t entropy = 0;  ///< sum of the rows' terms
};

/// A batch of lanes with the same heads and granules.
class RankedLanes {
 public:
  /// @param skew elements by which everything misses its alignment
  RankedLanes(std::vector<LaneShape> const& shapes, int heads, int page, unsigned seed,
              std::size_t skew = 0)
      : heads_(heads), page_(page), skew_(skew), random_(seed) {
    for (LaneShape const& shape : shapes) {
      add(shape);
    }
    logits_ = upload(host_logits_);
    rows_ = upload(logits_by_row());
    states_ = upload(host_states_);
    positions_ = upload(host_positions_);
    masses_ = filled(masses_end_ + 1, untouched);
    described_ = upload(descriptions());
  }

  [[nodiscard]] MassBatch batch() const {
    MassBatch batch;
    batch.lanes = static_cast<int>(lanes_.size());
    batch.heads = heads_;
    batch.max_rows = max_rows_;
    batch.page_tokens = page_;
    return batch;
  }

  [[nodiscard]] DescribedLanes described() const { return {described_.span()}; }

  /// Other logits, and of each run only so much of the rows; masses are forgotten.
  void change(unsigned seed, double share, Stream const& stream) {
    random_.seed(seed);
    for (Lane& lane : lanes_) {
      for (Run& run : lane.runs) {
        run.rows = static_cast<int>(share * run.rows);
      }
      fill(lane);
    }
    replace(logits_, host_logits_, stream);
    replace(rows_, logits_by_row(), stream);
    replace(described_, descriptions(), stream);
    replace(masses_, std::vector<Mass>(masses_.size(), untouched), stream);
  }

  [[nodiscard]] std::vector<LaneAnswer> answers() const {
    std::vector<LaneAnswer> all;
    for (Lane const& lane : lanes_) {
      all.push_back(answer(lane));
    }
    return all;
  }

  /// The masses on the device, as LaneAnswer has them. Empty if something else was written.
  [[nodiscard]] std::vector<std::vector<std::vector<Mass>>> masses(Stream const& stream) const {
    auto const all = download(masses_, stream);
    std::vector<bool> expected(all.size(), false);
    std::vector<std::vector<std::vector<Mass>>> out;
    for (Lane const& lane : lanes_) {
      auto& runs = out.emplace_back();
      for (Run const& run : lane.runs) {
        auto const begin = run.masses;
        auto const n = static_cast<std::size_t>(granules(run));
        runs.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(begin),
                          all.begin() + static_cast<std::ptrdiff_t>(begin + n));
        std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(begin), n, true);
      }
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!expected[i] && all[i] != untouched) {
        return {};
      }
    }
    return out;
  }

  /// Bytes of all logits that there are.
  [[nodiscard]] std::size_t logit_bytes() const {
    std::size_t rows = 0;
    for (Lane const& lane : lanes_) {
      for (Run const& run : lane.runs) {
        rows += static_cast<std::size_t>(run.rows);
      }
    }
    return rows * static_cast<std::size_t>(heads_) * sizeof(float);
  }

 private:
  static constexpr Mass untouched = 0xABCDEF01U;
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  struct Run {
    int rows = 0;
    std::size_t stride = 0;
    std::size_t logits = 0;
    std::size_t masses = 0;
    std::size_t states = none;
    std::size_t positions = none;
    std::size_t by_row = none;
    bool frozen_only = false;
    bool protects = false;
    int low = 0;
    int high = std::numeric_limits<int>::max();
  };

  struct Lane {
    Logits kind = Logits::normal;
    std::vector<Run> runs;
  };

  [[nodiscard]] int granules(Run const& run) const { return (run.rows + page_ - 1) / page_; }

  std::size_t rounded(std::size_t at) const { return (at + 3) / 4 * 4 + skew_; }

  void add(LaneShape const& shape) {
    Lane lane;
    lane.kind = shape.logits;
    int rows = 0;
    std::size_t const states = rounded(host_states_.size());
    int positions = 20000;
    for (RunShape const& part : shape.runs) {
      positions = std::max(positions, part.rows);
    }
    host_states_.resize(states + static_cast<std::size_t>(positions), 0);
    for (std::size_t i = states; i < host_states_.size(); ++i) {
      std::uint8_t const flags = static_cast<std::uint8_t>(random_() & 0xE8U);
      std::uint8_t const pinned = random_() % 8 == 0 ? host::GranuleState::pinned : 0;
      host_states_[i] = static_cast<std::uint8_t>(flags | pinned | random_() % 4);
    }
    for (RunShape const& part : shape.runs) {
      Run run;
      run.rows = part.rows;
      run.stride = rounded(static_cast<std::size_t>(part.rows)) + 4;
      run.logits = rounded(host_logits_.size());
      host_logits_.resize(run.logits + run.stride * static_cast<std::size_t>(heads_), 9.0F);
      run.masses = rounded(masses_end_);
      masses_end_ = run.masses + static_cast<std::size_t>(granules(run));
      if (part.by_row) {
        run.by_row = rows_end_;
        rows_end_ += static_cast<std::size_t>(part.rows) * width();
      }
      run.frozen_only = part.frozen_only;
      run.states = part.frozen_only || part.is_listed ? states : none;
      if (part.is_listed) {
        run.protects = true;
        run.low = 100;
        run.high = positions - 50;
        run.positions = rounded(host_positions_.size());
        host_positions_.resize(run.positions);
        for (int i = 0; i < granules(run); ++i) {
          host_positions_.push_back(static_cast<std::uint32_t>(random_()) %
                                    static_cast<std::uint32_t>(positions));
        }
      }
      rows += part.rows;
      lane.runs.push_back(run);
    }
    fill(lane);
    max_rows_ = std::max(max_rows_, rows);
    lanes_.push_back(lane);
  }

  /// Floats from row to row.
  [[nodiscard]] std::size_t width() const {
    return static_cast<std::size_t>(detail::CodedLogits::width_of(heads_));
  }

  /// Logits of the runs that have them row by row; what is not a number between them.
  [[nodiscard]] std::vector<float> logits_by_row() const {
    std::vector<float> all(rows_end_ + 4, std::numeric_limits<float>::quiet_NaN());
    for (Lane const& lane : lanes_) {
      for (Run const& run : lane.runs) {
        for (std::size_t i = 0; run.by_row != none && i < static_cast<std::size_t>(run.rows); ++i) {
          for (std::size_t h = 0; h < static_cast<std::size_t>(heads_); ++h) {
            all[run.by_row + i * width() + h] = host_logits_[run.logits + h * run.stride + i];
          }
        }
      }
    }
    return all;
  }

  void fill(Lane const& lane) {
    std::normal_distribution<float> normal(0.0F, 5.0F);
    std::uniform_real_distribution<float> uniform(-34.0F, -22.0F);
    for (Run const& run : lane.runs) {
      for (int h = 0; h < heads_; ++h) {
        float* const row =
            host_logits_.data() + run.logits + static_cast<std::size_t>(h) * run.stride;
        for (int i = 0; i < run.rows; ++i) {
          switch (lane.kind) {
            case Logits::normal:
              row[i] = random_() % 16 == 0 ? -infinity : normal(random_);
              break;
            case Logits::equal:
              row[i] = 3.25F;
              break;
            case Logits::nothing:
              row[i] = h == 0 ? -infinity : normal(random_);
              break;
            case Logits::far:
              row[i] = i % 1000 == 7 ? 1.5F : i % 3 == 0 ? -3e38F : uniform(random_);
              break;
            case Logits::zeros:
              row[i] = random_() % 2 == 0 ? 0.0F : -0.0F;
              break;
          }
        }
      }
    }
  }

  [[nodiscard]] std::vector<RankedLane> descriptions() const {
    std::vector<RankedLane> described;
    for (Lane const& lane : lanes_) {
      RankedLane& out = described.emplace_back();
      out.runs = static_cast<int>(lane.runs.size());
      for (std::size_t r = 0; r < lane.runs.size(); ++r) {
        Run const& run = lane.runs[r];
        LogitRun& d = out.run[r];
        d.logits = logits_.data() + run.logits;
        d.stride = static_cast<std::ptrdiff_t>(run.stride);
        if (run.by_row != none) {
          d.logits = rows_.data() + run.by_row;
          d.stride = 1;
          d.row_stride = static_cast<std::ptrdiff_t>(width());
        }
        d.rows = run.rows;
        d.masses = masses_.data() + run.masses;
        d.states = run.states == none ? nullptr : states_.data() + run.states;
        d.positions = run.positions == none ? nullptr : positions_.data() + run.positions;
        d.frozen_only = run.frozen_only;
        d.low = run.low;
        d.high = run.high;
        d.hidden = run.protects ? host::GranuleState::pinned : 0;
        d.protects = run.protects;
      }
    }
    return described;
  }

  [[nodiscard]] LaneAnswer answer(Lane const& lane) const {
    auto logits = host_logits_;
    LaneAnswer out;
    std::vector<host::LogitRun> runs;
    std::vector<std::vector<Mass>> rows;
    for (Run const& run : lane.runs) {
      rows.emplace_back(static_cast<std::size_t>(run.rows) + 1, 77U);
    }
    for (std::size_t r = 0; r < lane.runs.size(); ++r) {
      Run const& run = lane.runs[r];
      float* const first = logits.data() + run.logits;
      std::uint8_t const* const states =
          run.frozen_only ? host_states_.data() + run.states : nullptr;
      // Larger granules' rows that do not take part have no logits on the host.
      for (int i = 0; page_ > 1 && run.frozen_only && i < run.rows; ++i) {
        bool const in = (states[i / page_] & LogitRun::state_bits) == LogitRun::taking_part;
        for (int h = 0; !in && h < heads_; ++h) {
          first[static_cast<std::size_t>(h) * run.stride + static_cast<std::size_t>(i)] = -infinity;
        }
      }
      runs.push_back({first, static_cast<std::ptrdiff_t>(run.stride), run.rows,
                      page_ == 1 ? states : nullptr, rows[r].data()});
    }
    out.highest.resize(static_cast<std::size_t>(heads_));
    out.lse.resize(static_cast<std::size_t>(heads_));
    host::largest_logits(runs, heads_, out.highest.data());
    host::softmax_masses(runs, heads_, out.lse.data());
    for (int h = 0; h < heads_; ++h) {
      std::int64_t sum = 0;
      if (!runs.empty()) {
        auto const* const weights =
            reinterpret_cast<std::int32_t const*>(runs[0].logits + h * runs[0].stride);
        for (int i = 0; i < runs[0].rows; ++i) {
          sum += weights[i];
        }
      }
      out.first_weights.push_back(static_cast<float>(sum));
    }
    for (std::size_t r = 0; r < lane.runs.size(); ++r) {
      Run const& run = lane.runs[r];
      std::vector<Mass> masses(static_cast<std::size_t>(granules(run)), 0U);
      for (int i = 0; i < run.rows; ++i) {
        Mass const mass = rows[r][static_cast<std::size_t>(i)];
        masses[static_cast<std::size_t>(i / page_)] += mass;
        out.entropy += kvfreeze::detail::entropy_term(mass);
      }
      std::vector<std::uint8_t> counted(masses.size(), 1);
      for (std::size_t i = 0; run.protects && i < masses.size(); ++i) {
        auto const position = host_positions_[run.positions + i];
        bool const open = static_cast<int>(position) >= run.low &&
                          static_cast<int>(position) < run.high &&
                          (host_states_[run.states + position] & host::GranuleState::pinned) == 0;
        counted[i] = open ? 1 : 0;
        masses[i] = open ? masses[i] : 0;
      }
      out.histogram.add(masses.data(), counted.data(), masses.size());
      out.masses.push_back(masses);
    }
    return out;
  }

  int heads_;
  int page_;
  std::size_t skew_;
  std::mt19937 random_;
  int max_rows_ = 0;
  std::vector<Lane> lanes_;
  std::vector<float> host_logits_;
  std::vector<std::uint8_t> host_states_;
  std::vector<std::uint32_t> host_positions_;
  std::size_t masses_end_ = 0;
  std::size_t rows_end_ = 0;
  DeviceArray<float> logits_;
  DeviceArray<float> rows_;
  DeviceArray<std::uint8_t> states_;
  DeviceArray<std::uint32_t> positions_;
  DeviceArray<Mass> masses_;
  DeviceArray<RankedLane> described_;
};

}  // namespace kvfreeze::gpu::test
