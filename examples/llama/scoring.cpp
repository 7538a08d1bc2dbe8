#include "scoring.hpp"

#include "haystack.hpp"
#include "text.hpp"

#include <span>

namespace llama {

std::vector<std::vector<int>> read_pieces(Engine const& engine, std::string const& path,
                                          std::size_t offset, int context, int pieces) {
  return cut_pieces(engine.tokenizer(), read_text_file(path), path, offset, context, pieces);
}

void score_piece(std::vector<int> const& piece, int from, Run& plain,
                 std::vector<Candidate>& candidates, std::function<void(double)> const& done) {
  std::span<int const> const tokens = piece;
  auto const start = static_cast<std::size_t>(from);
  plain.restart();
  plain.prefill(tokens.first(start));
  for (Candidate& candidate : candidates) {
    candidate.run.restart();
    candidate.run.prefill(tokens.first(start));
  }
  for (std::size_t at = start; at < tokens.size(); ++at) {
    bool const last = at + 1 == tokens.size();
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      // The turn begins with another one each time: what ran before leaves the caches of the
      // processor warmer or colder.
      Candidate& candidate = candidates[(at + i) % candidates.size()];
      candidate.predictions.push_back(
          compare_logits(plain.logits(), candidate.run.logits(), tokens[at]));
      if (!last) {
        candidate.run.step_forced(tokens[at]);
      }
    }
    if (!last) {
      plain.step_forced(tokens[at]);
    }
    // Prefill takes a small part of the time.
    done(static_cast<double>(at - start + 1) / static_cast<double>(tokens.size() - start));
  }
}

}  // namespace llama
