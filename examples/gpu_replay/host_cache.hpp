#pragma once

/// @file
/// @brief The host's cache behind an interface: compiled by the host's compiler for this processor,
/// as users compile it, and not by nvcc.

#include <kvfreeze/report.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/types.hpp>

#include <memory>
#include <span>

namespace replay {

/// A cache of one sequence.
class HostCache {
 public:
  HostCache() = default;
  HostCache(HostCache const&) = delete;
  HostCache& operator=(HostCache const&) = delete;
  virtual ~HostCache() = default;

  virtual void attend(int layer, std::span<float const> q, std::span<float const> k,
                      std::span<float const> v, std::span<float> out) = 0;
  virtual kvfreeze::StepReport advance(std::span<float const> logits) = 0;
  virtual void fidelities(int layer, int lane, std::span<kvfreeze::Fidelity> out) = 0;
};

/// presets::KvFreeze.
std::unique_ptr<HostCache> make_host_cache(kvfreeze::Shape const& shape,
                                           kvfreeze::Limits const& limits,
                                           kvfreeze::LadderScheduler<> const& scheduler);

}  // namespace replay
