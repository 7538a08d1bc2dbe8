#pragma once

/// @file
/// @brief The optional `validate()` of a policy, and what its body is made of.
///
/// Any policy may have a member `void validate() const` that throws InvalidArgument, naming the
/// field, its value and its range. The cache calls it once, before it uses the policy; the policy's
/// other functions may then rely on the ranges. A policy without parameters has none.

#include <kvfreeze/detail/describe.hpp>
#include <kvfreeze/error.hpp>

#include <string>

namespace kvfreeze::detail {

/// @brief Rejects a parameter outside [low, high]; NaN is outside.
/// @throws InvalidArgument naming the field, its value and its range
inline void require_range(char const* field, double value, double low, double high) {
  if (!(value >= low && value <= high)) {
    throw InvalidArgument(std::string("kvfreeze: ") + field + " = " + describe(value) +
                          " is outside [" + describe(low) + ", " + describe(high) + "]");
  }
}

/// @brief Rejects a number of pooled rows that is even or outside [1, 63].
/// @throws InvalidArgument naming the field, its value and what it may be
inline void require_pooling(char const* field, int rows) {
  require_range(field, rows, 1, 63);
  if (rows % 2 == 0) {
    throw InvalidArgument(std::string("kvfreeze: ") + field + " = " + std::to_string(rows) +
                          " is even; a row and its neighbours are an odd number");
  }
}

/// @brief Calls the policy's validate() if it has one.
/// @throws InvalidArgument as the policy does
template <class Policy>
void validate_policy(Policy const& policy) {
  if constexpr (requires { policy.validate(); }) {
    policy.validate();
  }
}

}  // namespace kvfreeze::detail
