#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// What `generate` is asked when the user asks nothing.
extern std::string_view const default_prompt;

/// A sentence to be hidden in a text.
struct HiddenSentence {
  int depth = 0;  ///< percent of the text that come before it
  std::string text;
};

/// @brief Sentences put together, others hidden between them. A sentence ends with a blank.
std::string hide_sentences(std::vector<std::string> const& sentences,
                           std::vector<HiddenSentence> hidden);

/// @brief English-like sentences that do not repeat, for filling a cache.
std::string filler_prose(int sentences, std::uint64_t seed = 1);

}  // namespace llama
