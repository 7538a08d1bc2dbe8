#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>

#include <utility>

namespace kvfreeze {

/// @brief Several triggers at once: all of them observe every step, the hardest answer counts.
///
/// The window and the rewind are the largest that any of them asks for. `AnyOf{a, b}` deduces.
/// @tparam Triggers models of TriggerPolicy, at least one
/// @complexity the sum of theirs
template <TriggerPolicy... Triggers>
class AnyOf;

/// The end of the recursion. A recursion and not a tuple, which device code could not walk.
template <TriggerPolicy First>
class AnyOf<First> {
 public:
  static constexpr Recovery highest = detail::highest_recovery<First>();
  static constexpr bool needs_query_cosine = detail::needs_query_cosine<First>();

  AnyOf() = default;

  constexpr explicit AnyOf(First first) : first_(std::move(first)) {}

  KVFREEZE_HD constexpr Recovery observe(StepSignals const& signals) noexcept {
    return first_.observe(signals);
  }

  KVFREEZE_HD constexpr void reset() noexcept { first_.reset(); }

  [[nodiscard]] KVFREEZE_HD constexpr int window_steps() const noexcept {
    return detail::window_steps(first_);
  }

  [[nodiscard]] KVFREEZE_HD constexpr int rewind_tokens() const noexcept {
    return detail::rewind_tokens(first_);
  }

  void validate() const { detail::validate_policy(first_); }

 private:
  First first_{};
};

template <TriggerPolicy First, TriggerPolicy Second, TriggerPolicy... Rest>
class AnyOf<First, Second, Rest...> {
  using Others = AnyOf<Second, Rest...>;

 public:
  static constexpr Recovery highest = detail::highest_recovery<First>() > Others::highest
                                          ? detail::highest_recovery<First>()
                                          : Others::highest;
  static constexpr bool needs_query_cosine =
      detail::needs_query_cosine<First>() || Others::needs_query_cosine;

  AnyOf() = default;

  constexpr explicit AnyOf(First first, Second second, Rest... rest)
      : first_(std::move(first)), others_(std::move(second), std::move(rest)...) {}

  KVFREEZE_HD constexpr Recovery observe(StepSignals const& signals) noexcept {
    Recovery const mine = first_.observe(signals);
    Recovery const theirs = others_.observe(signals);
    return mine > theirs ? mine : theirs;
  }

  KVFREEZE_HD constexpr void reset() noexcept {
    first_.reset();
    others_.reset();
  }

  [[nodiscard]] KVFREEZE_HD constexpr int window_steps() const noexcept {
    int const mine = detail::window_steps(first_);
    return mine > others_.window_steps() ? mine : others_.window_steps();
  }

  [[nodiscard]] KVFREEZE_HD constexpr int rewind_tokens() const noexcept {
    int const mine = detail::rewind_tokens(first_);
    return mine > others_.rewind_tokens() ? mine : others_.rewind_tokens();
  }

  /// @throws InvalidArgument as the first that rejects its settings
  void validate() const {
    detail::validate_policy(first_);
    others_.validate();
  }

 private:
  First first_{};
  Others others_{};
};

template <class... Triggers>
AnyOf(Triggers...) -> AnyOf<Triggers...>;

static_assert(TriggerPolicy<AnyOf<NeverTrigger, NeverTrigger>>);

}  // namespace kvfreeze
