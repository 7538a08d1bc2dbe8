#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace llama {

/// A tokenizer's tables as a GGUF file has them.
struct Vocabulary {
  std::vector<std::string> pieces;  ///< text of every token; bytes are spelt as printable letters
  std::vector<std::string> merges;  ///< "left right", the most important first
  std::vector<int> control;         ///< tokens that are no text, such as <|im_start|>
};

/// @brief Byte-level BPE (GPT-2's), with the `smollm` rule that every digit is a word of its own.
///
/// `decode(encode(text)) == text` for any bytes. Non-ASCII characters are classed by block, not by
/// the full Unicode tables: enough for European text, and never lossy.
class Tokenizer {
 public:
  explicit Tokenizer(Vocabulary const& vocabulary);

  /// @brief Tokens of plain text. Control tokens are never made, whatever the text says.
  [[nodiscard]] std::vector<int> encode(std::string_view text) const;

  /// @brief The text of one token: raw bytes, maybe a part of a character.
  [[nodiscard]] std::string const& decode(int token) const;

  [[nodiscard]] std::string decode(std::span<int const> tokens) const;

  /// @brief A control token by its name.
  [[nodiscard]] std::optional<int> control(std::string_view name) const;

  [[nodiscard]] int size() const { return static_cast<int>(bytes_.size()); }

 private:
  struct Merge {
    int rank;
    int result;
  };

  void encode_word(std::string_view word, std::vector<int>& out) const;

  std::vector<std::string> bytes_;  // what each token stands for
  std::array<int, 256> byte_tokens_{};
  std::unordered_map<std::uint64_t, Merge> merges_;  // by (left token, right token)
  std::unordered_map<std::string, int> control_;
};

/// @brief Cuts text into the words that BPE merges within.
std::vector<std::string_view> split_words(std::string_view text);

}  // namespace llama
