#pragma once

/// @file
/// @brief A cache of one layer on the device and its twin of the host, fed with the same rows,
/// where a test goes through single calls: those that fail, those that are counted.

#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gpu/cuda_calls.hpp>
#include <gpu/device.cuh>
#include <gpu/ladder_twins.cuh>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace kvfreeze::gpu::test {

class CachePair {
 public:
  using Cache = Ladder<Half>;

  static constexpr Shape small{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 64};
  static constexpr int vocabulary = 10000;  ///< more than one block of its sums

  /// A sequence of both and what was fed to it.
  struct Text {
    Sequence host;
    Sequence device;
    std::mt19937 random;
    std::vector<std::vector<float>> keys;
    std::vector<Half> stored;  ///< K and V of each row and lane: [row][lane][K, V]
  };

  Stream stream;
  Cache device;

  /// Moves are frequent.
  static LadderScheduler<> ladder() {
    auto scheduler = test::ladder();
    scheduler.stay = 1;
    scheduler.every = 1;
    return scheduler;
  }

  CachePair(Shape const& shape, Limits const& limits, LadderScheduler<> const& scheduler = ladder())
      : device(shape, limits, scheduler),
        shape_(shape),
        host_(make_ladder_twin<Half>(shape, limits, scheduler, NeverTrigger{})),
        out_(static_cast<std::size_t>(shape.query_heads * shape.head_dim)) {}

  Text open(unsigned seed) {
    return {host_->open(), device.open(stream), std::mt19937(seed), {}, {}};
  }

  /// The host's half of a text that the device lost.
  void forget(Text const& text) { host_->close(text.host); }

  void close(Text const& text) {
    device.close(text.device, stream);
    host_->close(text.host);
  }

  /// The next row, on the device for enqueue().
  void next_row(Text& text) {
    make_row(text);
    q_ = upload(row_q_);
    k_ = upload(row_k_);
    v_ = upload(row_v_);
    logits_ = upload(row_logits_);
  }

  /// The device's half of a step, of which the host may know nothing.
  void enqueue(Text const& text) {
    device.begin_async({&text.device, 1}, stream);
    device.attend_async<float>(0, q_, k_, v_, out_, stream);
    device.advance_async<float>(logits_, stream);
  }

  /// The host's half, compared with what the device made of it.
  void compare(Text const& text) {
    auto const found = download(out_, stream);
    std::vector<float> expected(row_q_.size());
    host_->attend(text.host, 0, row_q_, row_k_, row_v_, expected);
    StepReport const report = host_->advance(text.host, row_logits_);
    float worst = 0.0F;
    bool finite = true;
    for (std::size_t i = 0; i < found.size(); ++i) {
      worst = std::max(worst, std::fabs(found[i] - expected[i]));
      finite = finite && std::isfinite(found[i]);
    }
    INFO("step " << report.step);
    REQUIRE(finite);
    REQUIRE(worst < 2e-5F);
    StepReport const device_report = device.report(text.device);
    REQUIRE(device_report.step == report.step);
    REQUIRE(device_report.missed_mass == report.missed_mass);
    REQUIRE(device_report.moved_in_bytes == report.moved_in_bytes);
    std::vector<Fidelity> on_host(static_cast<std::size_t>(report.length));
    std::vector<Fidelity> on_device(on_host.size());
    for (int lane = 0; lane < shape_.kv_heads; ++lane) {
      host_->fidelities(text.host, 0, lane, on_host);
      device.fidelities(text.device, 0, lane, on_device, stream);
      REQUIRE(on_host == on_device);
    }
  }

  /// A step on both sides, compared.
  void step(Text& text) {
    next_row(text);
    enqueue(text);
    compare(text);
  }

  void steps(Text& text, int count) {
    for (int i = 0; i < count; ++i) {
      step(text);
    }
  }

  /// @brief A step of which the n-th launch fails.
  /// @return the message; nothing if there are fewer launches
  std::optional<std::string> failing_step(Text& text, int nth) {
    next_row(text);
    CudaFault const fault(Calls::launches, nth, cudaErrorLaunchFailure);
    try {
      enqueue(text);
    } catch (CudaError const& error) {
      CHECK(error.code() == cudaErrorLaunchFailure);
      return error.what();
    }
    return std::nullopt;
  }

  /// K and V of a row in the tier.
  [[nodiscard]] std::span<std::byte> tier_row(Text const& text, int lane, int row) const {
    return device.tier().granule(
        {text.device.index, static_cast<std::uint32_t>(lane), static_cast<std::uint32_t>(row)});
  }

  /// @brief Is a row in the tier as it was appended, bit for bit?
  /// @pre it is not being written
  [[nodiscard]] bool is_stored(Text const& text, int lane, int row) const {
    auto const bytes = tier_row(text, lane, row);
    auto const elements = static_cast<std::size_t>(2 * shape_.head_dim);
    auto const index = static_cast<std::size_t>(row * shape_.kv_heads + lane);
    return bytes.size() == elements * sizeof(Half) &&
           std::memcmp(bytes.data(), text.stored.data() + index * elements, bytes.size()) == 0;
  }

  /// Writes the first rows to the tier as they were appended.
  void restore_tier(Text const& text, int rows) const {
    auto const elements = static_cast<std::size_t>(2 * shape_.head_dim);
    for (int i = 0; i < rows * shape_.kv_heads; ++i) {
      auto const bytes = tier_row(text, i % shape_.kv_heads, i / shape_.kv_heads);
      std::memcpy(bytes.data(), text.stored.data() + static_cast<std::size_t>(i) * elements,
                  bytes.size());
    }
  }

  /// All lanes of the first rows.
  [[nodiscard]] bool are_stored(Text const& text, int rows) const {
    bool stored = true;
    for (int i = 0; i < rows * shape_.kv_heads; ++i) {
      stored = stored && is_stored(text, i % shape_.kv_heads, i / shape_.kv_heads);
    }
    return stored;
  }

 private:
  /// It looks for some rows of the past, for others every 16 rows.
  void make_row(Text& text) {
    std::normal_distribution<float> normal;
    auto const fill = [&](std::vector<float>& out, std::size_t size) {
      out.resize(size);
      std::generate(out.begin(), out.end(), [&] { return normal(text.random); });
    };
    auto const dim = static_cast<std::size_t>(shape_.head_dim);
    auto const lanes = static_cast<std::size_t>(shape_.kv_heads);
    auto const heads = static_cast<std::size_t>(shape_.query_heads);
    fill(row_k_, dim * lanes);
    fill(row_v_, dim * lanes);
    fill(row_q_, dim * heads);
    fill(row_logits_, vocabulary);
    text.keys.push_back(row_k_);
    // Logits of 8, 7.4, 6.8, ... beside those of the many, which are about 1 apart.
    float const unit = 1.0F / std::sqrt(static_cast<float>(dim));
    std::minstd_rand wish(static_cast<unsigned>(text.keys.size() / 16 + 1));
    for (std::size_t h = 0; h < heads; ++h) {
      for (float logit = 8.0F; logit > 4.0F; logit -= 0.6F) {
        std::vector<float> const& wanted = text.keys[wish() % text.keys.size()];
        for (std::size_t d = 0; d < dim; ++d) {
          row_q_[h * dim + d] += logit * unit * wanted[h * lanes / heads * dim + d];
        }
      }
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      for (std::vector<float> const* part : {&row_k_, &row_v_}) {
        for (std::size_t d = 0; d < dim; ++d) {
          text.stored.push_back(from_float<Half>((*part)[lane * dim + d]));
        }
      }
    }
  }

  Shape shape_;
  std::unique_ptr<HostTwin> host_;
  std::vector<float> row_q_;
  std::vector<float> row_k_;
  std::vector<float> row_v_;
  std::vector<float> row_logits_;
  DeviceArray<float> q_;
  DeviceArray<float> k_;
  DeviceArray<float> v_;
  DeviceArray<float> logits_;
  DeviceArray<float> out_;
};

}  // namespace kvfreeze::gpu::test
