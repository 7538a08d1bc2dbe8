#pragma once

#include <kvfreeze/error.hpp>
#include <kvfreeze/host/context.hpp>

#include <cstdint>
#include <string>

namespace kvfreeze::host {

/// @brief For calls that need a sequence as it is between two steps.
/// @param call who asks
/// @throws InvalidArgument if a lane of the open sequence has rows of a step that is not finished
template <class C>
void require_whole_steps(Context<C> const& context, char const* call, std::uint32_t index) {
  int const length = context.sequences[index].length;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(context.geometry().lanes); ++i) {
    int const rows = context.memory.lane(index, i).lane->rows;
    if (rows != length) {
      auto const per_layer = static_cast<std::uint32_t>(context.geometry().lanes_per_layer);
      throw InvalidArgument(std::string(call) + "(): layer " + std::to_string(i / per_layer) +
                            " lane " + std::to_string(i % per_layer) + " of sequence " +
                            std::to_string(index) + " holds " + std::to_string(rows) +
                            " rows, the sequence has " + std::to_string(length) +
                            " tokens: finish the step with advance() or take it back with "
                            "truncate()");
    }
  }
}

}  // namespace kvfreeze::host
