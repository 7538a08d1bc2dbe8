#include "scoring.hpp"

#include "text.hpp"
#include "user_error.hpp"

#include <string_view>

namespace llama {

std::vector<int> read_tokens(Engine const& engine, std::string const& path, std::size_t offset,
                             std::size_t count, std::string_view option) {
  std::string const text = read_text_file(path);
  if (offset >= text.size()) {
    throw UserError("--offset " + std::to_string(offset) + " is past the end of '" + path + "' (" +
                    std::to_string(text.size()) + " bytes)");
  }
  // A token is rarely longer than 16 bytes on average: what comes later is not worth encoding.
  std::string_view const part = std::string_view(text).substr(offset, 16 * count + 4096);
  std::vector<int> tokens = engine.tokenizer().encode(part);
  if (tokens.size() < count) {
    throw UserError("the text '" + path + "' has " + std::to_string(tokens.size()) +
                    " tokens from byte " + std::to_string(offset) + " on, but " +
                    std::to_string(count) + " are needed (" + std::string(option) + ")");
  }
  tokens.resize(count);
  return tokens;
}

std::vector<std::vector<int>> read_pieces(Engine const& engine, std::string const& path,
                                          std::size_t offset, int context, int pieces) {
  auto const length = static_cast<std::size_t>(context);
  std::size_t const needed = length * static_cast<std::size_t>(pieces);
  std::vector<int> const tokens = read_tokens(engine, path, offset, needed, "--context x --chunks");
  std::vector<std::vector<int>> result;
  for (std::size_t at = 0; at < needed; at += length) {
    auto const first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
    result.emplace_back(first, first + static_cast<std::ptrdiff_t>(length));
  }
  return result;
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
