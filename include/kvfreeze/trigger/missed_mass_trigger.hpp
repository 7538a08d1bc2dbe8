#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>

namespace kvfreeze {

/// @brief Thaws when attention misses too much: the direct test that reversible storage makes
/// possible.
///
/// The mean over lanes of the estimated mass of unseen rows (StepSignals::missed_mass) above
/// `limit` for `patience` steps in a row asks for SR; if that does not help, WR, then FR, at least
/// `cooldown` steps apart. `patience` steps in a row below the limit start again at SR. Needs no
/// calibration, unlike entropy.
///
/// @complexity O(1)
struct MissedMassTrigger {
  static constexpr Recovery highest = Recovery::full;

  float limit = 0.1F;  ///< mass, in [0, 1]
  int patience = 2;    ///< steps, in [1, 65536]
  int cooldown = 16;   ///< steps after an action in which there is no other, in [0, 2^24]

  /// What it remembers of the sequence; not a setting.
  struct Memory {
    int over = 0;   ///< steps in a row above the limit, counted up to patience
    int under = 0;  ///< steps in a row below it, likewise
    int wait = 0;   ///< steps left of the cool-down
    Recovery next = Recovery::soft;

    friend constexpr bool operator==(Memory const&, Memory const&) = default;
  };

  Memory memory = {};

  KVFREEZE_HD constexpr Recovery observe(StepSignals const& signals) noexcept {
    bool const over = signals.missed_mass > limit;
    memory.over = over ? counted(memory.over) : 0;
    memory.under = over ? 0 : counted(memory.under);
    if (memory.under == patience) {
      memory.next = Recovery::soft;
    }
    if (memory.wait > 0) {
      --memory.wait;
      return Recovery::none;
    }
    if (memory.over < patience) {
      return Recovery::none;
    }
    Recovery const action = memory.next;
    memory.next = action == Recovery::soft ? Recovery::window : Recovery::full;
    memory.over = 0;
    memory.wait = cooldown;
    return action;
  }

  KVFREEZE_HD constexpr void reset() noexcept { memory = {}; }

  /// @throws InvalidArgument if a setting is out of its range
  void validate() const {
    detail::require_range("MissedMassTrigger::limit", limit, 0, 1);
    detail::require_range("MissedMassTrigger::patience", patience, 1, 65536);
    detail::require_range("MissedMassTrigger::cooldown", cooldown, 0, 1 << 24);
  }

 private:
  KVFREEZE_HD constexpr int counted(int steps) const noexcept {
    return steps < patience ? steps + 1 : patience;
  }
};

static_assert(TriggerPolicy<MissedMassTrigger>);

}  // namespace kvfreeze
