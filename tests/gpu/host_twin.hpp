#pragma once

/// @file
/// @brief A host cache behind an interface: compiled by the host's compiler, for the host's
/// processor, as users compile it, and once for all tests of the device.

#include <kvfreeze/report.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>
#include <kvfreeze/types.hpp>

#include <memory>
#include <span>

namespace kvfreeze::gpu::test {

class HostTwin {
 public:
  HostTwin() = default;
  HostTwin(HostTwin const&) = delete;
  HostTwin& operator=(HostTwin const&) = delete;
  virtual ~HostTwin() = default;

  virtual Sequence open() = 0;
  virtual void close(Sequence) = 0;
  virtual void attend(Sequence, int layer, std::span<float const> q, std::span<float const> k,
                      std::span<float const> v, std::span<float> out) = 0;
  virtual StepReport advance(Sequence, std::span<float const> logits) = 0;
  virtual void truncate(Sequence, int length) = 0;
  virtual void pin(Sequence, std::span<TokenRange const>) = 0;
  virtual void thaw(Sequence) = 0;
  virtual void set_shares(Sequence, std::span<float const>) = 0;  ///< if its scheduler has them
  virtual void fidelities(Sequence, int layer, int lane, std::span<Fidelity> out) = 0;
};

/// The default ladder: LadderRows, NestedKeyCodes<1, 5>, elements of T.
template <class T, class Trigger>
std::unique_ptr<HostTwin> make_ladder_twin(Shape const&, Limits const&, LadderScheduler<> const&,
                                           Trigger const&);

/// One compact level of 4 bits, flat key codes of 4.
template <class T, class Trigger>
std::unique_ptr<HostTwin> make_flat_twin(Shape const&, Limits const&, LadderScheduler<> const&,
                                         Trigger const&);

/// presets::UniformQuantised of Bits bits, elements of T.
template <int Bits, class T>
std::unique_ptr<HostTwin> make_uniform_twin(Shape const&, Limits const&);

}  // namespace kvfreeze::gpu::test
