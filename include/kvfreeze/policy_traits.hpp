#pragma once

/// @file
/// @brief Defaults of everything optional in a policy. The only place that asks for it.

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/digest/none.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

namespace kvfreeze::detail {

template <class S>
struct digest_of {
  using type = NoDigest;
};

template <class S>
  requires requires { typename S::Digest; }
struct digest_of<S> {
  using type = typename S::Digest;
};

template <ScorerPolicy S>
using digest_t = typename digest_of<S>::type;

template <ScorerPolicy S>
constexpr int query_window(S const& scorer) noexcept {
  if constexpr (S::evidence != Evidence::queries) {
    return 0;
  } else if constexpr (requires { scorer.queries(); }) {
    return scorer.queries();
  } else {
    return 32;
  }
}

/// Last queries of a prefill chunk whose evidence the scorer wants.
template <ScorerPolicy S>
KVFREEZE_HD constexpr int prompt_queries(S const& scorer) noexcept {
  if constexpr (requires { scorer.prompt_queries(); }) {
    return scorer.prompt_queries();
  } else {
    return digest_t<S>::group_rows > 0 ? 4 : 1;
  }
}

/// Rows over which scores are averaged before rows are ranked.
template <ScorerPolicy S>
KVFREEZE_HD constexpr int pooled_rows(S const& scorer) noexcept {
  if constexpr (requires { scorer.pooled_rows(); }) {
    return scorer.pooled_rows();
  } else {
    return 1;
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool is_timed() noexcept {
  if constexpr (requires { S::timed; }) {
    return S::timed;
  } else {
    return false;
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool has_sleep() noexcept {
  if constexpr (requires { S::sleeps; }) {
    return S::sleeps;
  } else {
    return is_timed<S>();
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool is_eager() noexcept {
  if constexpr (requires { S::eager; }) {
    return S::eager;
  } else {
    return false;
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr int slow_period(S const& scheduler) noexcept {
  if constexpr (requires { scheduler.period(); }) {
    return scheduler.period();
  } else {
    return 1;
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr int recount(S const& scheduler, int previous, bool low, int steps) noexcept {
  if constexpr (requires { scheduler.count(previous, low, steps); }) {
    return scheduler.count(previous, low, steps);
  } else {
    return previous + (low ? 1 : 0);
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr float base_level(S const& scheduler) noexcept {
  if constexpr (requires { scheduler.base_level(); }) {
    return scheduler.base_level();
  } else {
    return 0.0F;
  }
}

/// The least level of the water: its own epsilon where there is a byte cap.
template <SchedulerPolicy S>
KVFREEZE_HD constexpr float capped_level(S const& scheduler) noexcept {
  if constexpr (requires { scheduler.capped_level(); }) {
    return scheduler.capped_level();
  } else {
    return base_level(scheduler);
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr float hysteresis(S const& scheduler) noexcept {
  if constexpr (requires { scheduler.hysteresis(); }) {
    return scheduler.hysteresis();
  } else {
    return 1.0F;
  }
}

/// Does the scheduler deal a byte cap by shares?
template <class S>
concept DealsShares = requires(S const& scheduler, LaneFacts const& lane) {
  { scheduler.share(lane) } noexcept -> std::same_as<float>;
};

/// Does the scheduler say how many granules it lets a lane hold exact?
template <class S>
concept StatesItsBudget = requires(S const& scheduler, LaneFacts const& lane) {
  { scheduler.budget(lane) } noexcept -> std::same_as<std::int32_t>;
};

template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool needs_entropy() noexcept {
  if constexpr (requires { S::needs_entropy; }) {
    return S::needs_entropy;
  } else {
    return false;
  }
}

/// Does a row that sank rise again when a query needs it?
template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool rises() noexcept {
  if constexpr (requires { S::rises; }) {
    return S::rises;
  } else {
    return true;
  }
}

/// Does a ladder go by ranks, Rungs::attended?
template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool by_rank() noexcept {
  if constexpr (requires { S::by_rank; }) {
    return S::by_rank;
  } else {
    return false;
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool needs_layer_parts() noexcept {
  if constexpr (requires { S::needs_layer_parts; }) {
    return S::needs_layer_parts;
  } else {
    return false;
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool needs_sequence_shares() noexcept {
  if constexpr (requires { S::needs_sequence_shares; }) {
    return S::needs_sequence_shares;
  } else {
    return false;
  }
}

template <SchedulerPolicy S>
KVFREEZE_HD constexpr bool is_uniform() noexcept {
  if constexpr (requires { S::uniform; }) {
    return S::uniform;
  } else {
    return false;
  }
}

template <class S>
concept HasRungs = requires(S const& scheduler, LaneFacts const& lane) {
  { scheduler.rungs(lane) } noexcept -> std::same_as<Rungs>;
};

/// Does the digest encode with the queries' summed squares by channel?
template <class D>
concept WeighsChannels =
    requires(float const* keys, float const* importance, int dim, std::byte* group) {
      { D::encode(keys, importance, dim, group) } noexcept -> std::same_as<void>;
    };

/// Bits of a key's code in the digest of every row; 0 where keys have no codes.
template <DigestPolicy D>
constexpr int digest_bits() noexcept {
  if constexpr (requires { D::bits; }) {
    return D::bits;
  } else {
    return 0;
  }
}

/// Bits of the finest code that the digest makes of a key.
template <DigestPolicy D>
constexpr int digest_total_bits() noexcept {
  if constexpr (requires { D::total_bits; }) {
    return D::total_bits;
  } else {
    return digest_bits<D>();
  }
}

template <TierPolicy T>
constexpr TierKind tier_kind() noexcept {
  if constexpr (requires { T::kind; }) {
    return T::kind;
  } else {
    return TierKind::holding;
  }
}

template <TierPolicy T>
constexpr bool is_lossless() noexcept {
  if constexpr (requires { T::lossless; }) {
    return T::lossless;
  } else {
    return tier_kind<T>() != TierKind::discarding;
  }
}

template <TierPolicy T>
constexpr void attach_tier(T& tier, TierGeometry const& geometry) {
  if constexpr (requires { tier.attach(geometry); }) {
    tier.attach(geometry);
  }
}

template <TierPolicy T>
constexpr std::size_t tier_capacity(T const& tier) noexcept {
  if constexpr (requires { tier.capacity(); }) {
    return tier.capacity();
  } else {
    return std::numeric_limits<std::size_t>::max();
  }
}

/// Does the tier itself make one sequence a copy of another?
template <class T>
concept ForksSequences = requires(T& t, std::uint32_t from, std::uint32_t to) {
  { t.fork(from, to) } -> std::same_as<void>;
};

template <TriggerPolicy T>
KVFREEZE_HD constexpr Recovery highest_recovery() noexcept {
  if constexpr (requires { T::highest; }) {
    return T::highest;
  } else {
    return Recovery::full;
  }
}

template <TriggerPolicy T>
KVFREEZE_HD constexpr bool needs_query_cosine() noexcept {
  if constexpr (requires { T::needs_query_cosine; }) {
    return T::needs_query_cosine;
  } else {
    return false;
  }
}

template <TriggerPolicy T>
KVFREEZE_HD constexpr int window_steps(T const& trigger) noexcept {
  if constexpr (requires { trigger.window_steps(); }) {
    return trigger.window_steps();
  } else {
    return 32;
  }
}

template <TriggerPolicy T>
KVFREEZE_HD constexpr int rewind_tokens(T const& trigger) noexcept {
  if constexpr (requires { trigger.rewind_tokens(); }) {
    return trigger.rewind_tokens();
  } else {
    return 16;
  }
}

/// Does the trigger say itself how its memory becomes bytes?
template <class T>
concept SavesItsMemory = requires(T const& saved, T& restored, std::span<std::byte const> bytes) {
  { saved.save() } -> std::same_as<std::vector<std::byte>>;
  { restored.restore(bytes) } -> std::same_as<void>;
};

/// Can a sequence with the trigger be saved?
template <class T>
concept SavableTrigger = SavesItsMemory<T> || std::is_trivially_copyable_v<T>;

}  // namespace kvfreeze::detail
