#pragma once

#include "prose.hpp"
#include "tokenizer.hpp"

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// @brief Hands out the sentences of a text one after the other, without those that are too long
/// to be prose.
class Sentences {
 public:
  Sentences(Tokenizer const& tokenizer, std::string_view text);

  /// @brief The next ones, of so many tokens in sum.
  /// @throws UserError if the text has no more
  std::vector<std::string> take(int tokens);

 private:
  Tokenizer const& tokenizer_;
  std::vector<std::string> sentences_;
  std::size_t at_ = 0;
};

/// @brief The tokens of a text from byte `offset` on, in pieces of one length.
/// @param name of the text, for messages
/// @throws UserError if the text is too short
std::vector<std::vector<int>> cut_pieces(Tokenizer const& tokenizer, std::string_view text,
                                         std::string const& name, std::size_t offset, int length,
                                         int pieces);

// The pass key (Landmark Attention, arXiv 2305.16300): one number in a long text.
inline constexpr int passkey_answer_tokens = 8;  // a five-digit key is five tokens and a space
inline constexpr std::string_view passkey_heading =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there.\n";
inline constexpr std::string_view passkey_question = "\nWhat is the pass key? The pass key is";

/// @brief The sentences that tell the key, with the newlines around them.
std::string passkey_needle(std::string const& key);

/// @brief A key of five digits.
std::string random_passkey(std::mt19937& random);

// Needles (RULER's multi-key NIAH, arXiv 2404.06654): a number for each of several cities.
inline constexpr int needle_answer_tokens = 10;      // seven digits are seven tokens and a space
inline constexpr int needle_answer_tokens_all = 12;  // of a list, for each number
inline constexpr std::size_t most_needles = 12;      // there are so many cities

/// One text with its needles.
struct NeedleText {
  std::string text;
  std::vector<std::string> names;    ///< in the order of the depths
  std::vector<std::string> numbers;  ///< theirs
};

/// @brief A text of about `length` tokens, question included, with a needle at each depth.
/// @param depths percent of the prose before each needle; at most `most_needles`
NeedleText make_needle_text(Tokenizer const& tokenizer, Sentences& sentences, int length,
                            std::vector<int> const& depths, std::mt19937& random);

/// @brief The sentence that tells a city's number; it ends with a blank.
std::string needle_sentence(std::string const& city, std::string const& number);

/// @brief The question for one city, the beginning of the answer included.
std::string needle_question(std::string const& city);

/// @brief The question for several at once.
std::string needle_question_for_all(std::vector<std::string> const& cities);

/// A city and its number.
struct Needle {
  std::string city;
  std::string number;
};

/// @brief Different cities with random numbers. @param count at most `most_needles`
std::vector<Needle> random_needles(std::size_t count, std::mt19937& random);

}  // namespace llama
