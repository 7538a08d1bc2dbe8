#pragma once

#include <kvfreeze/error.hpp>

#include <cstddef>
#include <limits>
#include <string>

namespace kvfreeze::gpu {

/// @brief Decode attention's sizes and how it is spread over the device. Equal shapes and numbers
/// of lanes give equal bits on equal devices.
struct DecodeShape {
  int group = 1;     ///< query heads of a KV head, in [1, 64]
  int head_dim = 0;  ///< a multiple of 8 in [8, 256]

  /// What queries are multiplied with first: 1 if they are in octaves already, scale * log2(e) if
  /// they are as the model has them.
  float octaves = 1.0F;

  /// No lane has more rows, all runs together. Saves blocks where it is small.
  std::size_t longest = std::numeric_limits<std::size_t>::max();

  /// Blocks of a launch; 0: two for each multiprocessor. Fewer leave room for other work.
  int blocks = 0;

  /// Leaves out exact and absent rows: the share of the compact ones, to be merged with that of a
  /// kernel that knows only exact rows.
  bool compact_only = false;
};

namespace detail {

/// @throws InvalidArgument naming the field and its value
/// @tparam MaxDim bound of head_dim that a kernel was compiled for; 0: that of all
template <int MaxDim = 0>
void check_shape(char const* function, DecodeShape const& shape) {
  auto const reject = [&](char const* field, long value, char const* rule) {
    throw InvalidArgument(std::string(function) + ": DecodeShape::" + field + " is " +
                          std::to_string(value) + ", must be " + rule);
  };
  if (shape.group < 1 || shape.group > 64) {
    reject("group", shape.group, "in [1, 64]");
  }
  if (shape.head_dim < 8 || shape.head_dim > 256 || shape.head_dim % 8 != 0) {
    reject("head_dim", shape.head_dim, "a multiple of 8 in [8, 256]");
  }
  if (MaxDim > 0 && shape.head_dim > MaxDim) {
    reject("head_dim", shape.head_dim, ("at most " + std::to_string(MaxDim)).c_str());
  }
  if (shape.blocks < 0) {
    reject("blocks", shape.blocks, "0 or more");
  }
  if (!(shape.octaves > 0.0F) || shape.octaves > std::numeric_limits<float>::max()) {
    throw InvalidArgument(std::string(function) + ": DecodeShape::octaves is " +
                          std::to_string(shape.octaves) + ", must be positive and finite");
  }
}

}  // namespace detail

}  // namespace kvfreeze::gpu
