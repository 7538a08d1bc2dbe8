#include "tokenizer.hpp"

#include "byte_vocabulary.hpp"

#include <catch2/catch.hpp>

#include <random>
#include <string>
#include <vector>

using namespace llama;

namespace {

/// All bytes, a few merges and a control token.
Vocabulary small_vocabulary() {
  Vocabulary v = byte_vocabulary();
  for (char const* piece : {"he", "ll", "hell", "hello", "\xC4\xA0h", "<|end|>"}) {
    v.pieces.emplace_back(piece);
  }
  v.merges = {"h e", "l l", "he ll", "hell o", "\xC4\xA0 h"};
  v.control = {static_cast<int>(v.pieces.size()) - 1};
  return v;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  for (std::string_view const word : split_words(text)) {
    out.emplace_back(word);
  }
  return out;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("merges are applied by rank") {
  Tokenizer const tokenizer(small_vocabulary());
  CHECK(tokenizer.encode("hello") == std::vector<int>{259});
  CHECK(tokenizer.encode("hell") == std::vector<int>{258});
  // " hello": 'h e' comes before 'Gh', so the space stays alone.
  CHECK(tokenizer.encode(" hello") == std::vector<int>{' ', 259});
  CHECK(tokenizer.encode(" ho") == std::vector<int>{260, 'o'});
  CHECK(tokenizer.encode("lll") == std::vector<int>{257, 'l'});  // the left one of two equals
}

TEST_CASE("words are cut as GPT-2 does, digits alone") {
  CHECK(words("Hello world") == Words{"Hello", " world"});
  CHECK(words("it's we'll") == Words{"it", "'s", " we", "'ll"});
  CHECK(words("a  b") == Words{"a", " ", " b"});
  CHECK(words("a\n\n b") == Words{"a", "\n\n", " b"});
  CHECK(words("x  ") == Words{"x", "  "});
  CHECK(words("in 1984!") == Words{"in", " ", "1", "9", "8", "4", "!"});
  CHECK(words("f(x), --y") == Words{"f", "(", "x", "),", " --", "y"});
  CHECK(words("\xC3\xA9t\xC3\xA9 \xE2\x80\x94 ok") ==
        Words{"\xC3\xA9t\xC3\xA9", " \xE2\x80\x94", " ok"});
  CHECK(words("").empty());
}

TEST_CASE("any bytes come back") {
  Tokenizer const tokenizer(small_vocabulary());
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (unsigned i = 0; i < random() % 60; ++i) {
      text += random() % 3 == 0 ? static_cast<char>(random() % 256) : "hel o 1'\n"[random() % 9];
    }
    CAPTURE(round);
    REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

TEST_CASE("a very long word takes no quadratic time") {
  Tokenizer const tokenizer(small_vocabulary());
  std::string const text(300000, 'l');
  CHECK(tokenizer.encode(text).size() == 150000);
}

TEST_CASE("control tokens are never made of text") {
  Tokenizer const tokenizer(small_vocabulary());
  CHECK(tokenizer.control("<|end|>") == 261);
  CHECK_FALSE(tokenizer.control("hello"));
  CHECK(tokenizer.encode("<|end|>").size() == 7);
}
