#pragma once

#include "engine.hpp"
#include "quality.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// @brief The first tokens of a text file from byte `offset` on.
/// @param option what asks for so many of them, for the message
/// @throws UserError if the text is too short
std::vector<int> read_tokens(Engine const& engine, std::string const& path, std::size_t offset,
                             std::size_t count, std::string_view option);

/// @brief Pieces of a text file, each of `context` tokens.
/// @throws UserError if the text is too short
std::vector<std::vector<int>> read_pieces(Engine const& engine, std::string const& path,
                                          std::size_t offset, int context, int pieces);

/// A preset under test: what it makes of a text, beside what the plain cache makes of it.
struct Candidate {
  Choice choice;
  Run run;
  std::vector<Prediction> predictions;
};

/// @brief Feeds one piece to the plain cache and to all candidates, step by step beside each
/// other. Positions from `from` on are compared.
/// @param done told how much of the piece is done, in [0, 1]
void score_piece(std::vector<int> const& piece, int from, Run& plain,
                 std::vector<Candidate>& candidates, std::function<void(double)> const& done);

}  // namespace llama
