#include "tokenizer.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <queue>
#include <tuple>

namespace llama {

namespace {

constexpr int no_token = -1;

std::string utf8(unsigned code_point) {
  if (code_point < 0x80) {
    return {static_cast<char>(code_point)};
  }
  return {static_cast<char>(0xC0U | (code_point >> 6U)),
          static_cast<char>(0x80U | (code_point & 0x3FU))};
}

/// GPT-2's spelling of bytes: printable Latin-1 stands for itself, the rest for U+0100 and up.
std::array<std::string, 256> byte_spellings() {
  std::array<std::string, 256> spellings;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    bool const printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    spellings[byte] = utf8(printable ? byte : next++);
  }
  return spellings;
}

std::uint64_t pair_key(int left, int right) {
  return (static_cast<std::uint64_t>(left) << 32U) | static_cast<std::uint32_t>(right);
}

enum class CharacterClass { letter, digit, space, other };

struct Character {
  CharacterClass kind;
  std::size_t size;  // bytes
};

CharacterClass classify_ascii(unsigned c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
    return CharacterClass::letter;
  }
  if (c >= '0' && c <= '9') {
    return CharacterClass::digit;
  }
  return c == ' ' || (c >= '\t' && c <= '\r') ? CharacterClass::space : CharacterClass::other;
}

/// By Unicode block: general punctuation, symbols and pictographs are `other`, what remains are
/// letters.
CharacterClass classify(unsigned c) {
  auto const within = [c](unsigned first, unsigned last) { return c >= first && c <= last; };
  if (c < 0x80) {
    return classify_ascii(c);
  }
  if (c == 0x85 || c == 0xA0 || within(0x2000, 0x200A) || within(0x2028, 0x2029) || c == 0x202F ||
      c == 0x205F || c == 0x3000) {
    return CharacterClass::space;
  }
  if (c == 0xB2 || c == 0xB3 || c == 0xB9 || within(0xBC, 0xBE) || within(0x2070, 0x2079) ||
      within(0x2080, 0x2089) || within(0x2150, 0x218B) || within(0x2460, 0x249B)) {
    return CharacterClass::digit;
  }
  if (c < 0xC0) {
    return c == 0xAA || c == 0xB5 || c == 0xBA ? CharacterClass::letter : CharacterClass::other;
  }
  bool const symbol = c == 0xD7 || c == 0xF7 || within(0x2000, 0x2BFF) || within(0x3001, 0x303F) ||
                      within(0xFE00, 0xFE0F) || c >= 0x1F000;
  return symbol ? CharacterClass::other : CharacterClass::letter;
}

Character character_at(std::string_view text, std::size_t at) {
  auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned const lead = byte(at);
  std::size_t const size = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (size == 1) {
    return {lead < 0x80 ? classify_ascii(lead) : CharacterClass::other, 1};
  }
  unsigned code_point = lead & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if (at + i == text.size() || (byte(at + i) & 0xC0U) != 0x80U) {
      return {CharacterClass::other, 1};  // not UTF-8: a byte like any other
    }
    code_point = (code_point << 6U) | (byte(at + i) & 0x3FU);
  }
  return {classify(code_point), size};
}

/// Length of 's, 't, 're, 've, 'm, 'll or 'd at the start of the text, else 0.
std::size_t contraction(std::string_view text) {
  for (std::string_view const suffix : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(suffix)) {
      return suffix.size();
    }
  }
  return 0;
}

/// End of the run of characters of one class that begins at `at`.
std::size_t run_end(std::string_view text, std::size_t at, CharacterClass kind) {
  while (at < text.size()) {
    Character const c = character_at(text, at);
    if (c.kind != kind) {
      break;
    }
    at += c.size;
  }
  return at;
}

/// White space goes with itself, but its last character is left to the word that follows.
std::size_t space_end(std::string_view text, std::size_t at) {
  std::size_t last = at;
  std::size_t end = at;
  while (end < text.size()) {
    Character const c = character_at(text, end);
    if (c.kind != CharacterClass::space) {
      return last > at ? last : end;
    }
    last = end;
    end += c.size;
  }
  return end;
}

/// GPT-2's word pattern on text without digits:
/// 's|'t|'re|'ve|'m|'ll|'d| ?letters| ?others|\s+(?!\S)|\s+
void split_gpt2(std::string_view text, std::vector<std::string_view>& out) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t end = at + contraction(text.substr(at));
    if (end == at) {
      std::size_t const body = at + (text[at] == ' ' && at + 1 < text.size() ? 1U : 0U);
      CharacterClass const kind = character_at(text, body).kind;
      end = kind == CharacterClass::space ? space_end(text, at) : run_end(text, body, kind);
    }
    out.push_back(text.substr(at, end - at));
    at = end;
  }
}

}  // namespace

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  std::size_t start = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    Character const c = character_at(text, at);
    if (c.kind == CharacterClass::digit) {
      split_gpt2(text.substr(start, at - start), words);
      words.push_back(text.substr(at, c.size));
      start = at + c.size;
    }
    at += c.size;
  }
  split_gpt2(text.substr(start), words);
  return words;
}

Tokenizer::Tokenizer(Vocabulary const& vocabulary) {
  std::array<std::string, 256> const spellings = byte_spellings();
  std::unordered_map<std::string, char> byte_of;
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_of.emplace(spellings[byte], static_cast<char>(byte));
  }

  std::unordered_map<std::string, int> token_of;
  for (std::string const& piece : vocabulary.pieces) {
    token_of.emplace(piece, static_cast<int>(bytes_.size()));
    std::string& bytes = bytes_.emplace_back();
    for (std::size_t i = 0; i < piece.size();) {
      std::size_t const size = static_cast<unsigned char>(piece[i]) < 0x80 ? 1 : 2;
      auto const found = byte_of.find(piece.substr(i, size));
      bytes += found != byte_of.end() ? std::string(1, found->second) : piece.substr(i, size);
      i += size;
    }
  }
  auto const find = [&](std::string const& piece) {
    auto const found = token_of.find(piece);
    return found != token_of.end() ? found->second : no_token;
  };

  std::transform(spellings.begin(), spellings.end(), byte_tokens_.begin(), find);
  for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    std::string const& merge = vocabulary.merges[rank];
    std::size_t const space = merge.find(' ', 1);
    if (space == std::string::npos) {
      continue;
    }
    int const left = find(merge.substr(0, space));
    int const right = find(merge.substr(space + 1));
    int const result = find(merge.substr(0, space) + merge.substr(space + 1));
    if (left != no_token && right != no_token && result != no_token) {
      merges_.emplace(pair_key(left, right), Merge{static_cast<int>(rank), result});
    }
  }
  for (int const token : vocabulary.control) {
    control_.emplace(vocabulary.pieces[static_cast<std::size_t>(token)], token);
  }
}

std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> tokens;
  for (std::string_view const word : split_words(text)) {
    encode_word(word, tokens);
  }
  return tokens;
}

void Tokenizer::encode_word(std::string_view word, std::vector<int>& out) const {
  // A doubly linked list of symbols, and a heap of the merges that are possible: O(n log n) even
  // for a "word" of a hundred thousand letters.
  struct Symbol {
    int token;
    int previous;
    int next;
  };

  std::vector<Symbol> symbols;
  for (char const c : word) {
    if (int const token = byte_tokens_[static_cast<unsigned char>(c)]; token != no_token) {
      int const at = static_cast<int>(symbols.size());
      symbols.push_back({token, at - 1, at + 1});
    }
  }
  int const end = static_cast<int>(symbols.size());
  auto const symbol = [&](int at) -> Symbol& { return symbols[static_cast<std::size_t>(at)]; };

  using Candidate = std::tuple<int, int, int, int>;  // rank, left symbol, its token, right token
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  auto const propose = [&](int left) {
    if (left < 0 || symbol(left).next >= end) {
      return;
    }
    int const a = symbol(left).token;
    int const b = symbol(symbol(left).next).token;
    if (auto const found = merges_.find(pair_key(a, b)); found != merges_.end()) {
      candidates.emplace(found->second.rank, left, a, b);
    }
  };
  for (int i = 0; i + 1 < end; ++i) {
    propose(i);
  }
  while (!candidates.empty()) {
    auto const [rank, left, a, b] = candidates.top();
    candidates.pop();
    int const right = symbol(left).next;
    if (symbol(left).token != a || right >= end || symbol(right).token != b) {
      continue;  // one of the two was merged otherwise in the meantime
    }
    symbol(left).token = merges_.at(pair_key(a, b)).result;
    symbol(left).next = symbol(right).next;
    symbol(right).token = no_token;
    if (symbol(left).next < end) {
      symbol(symbol(left).next).previous = left;
    }
    propose(symbol(left).previous);
    propose(left);
  }
  for (int i = 0; i < end; i = symbol(i).next) {
    out.push_back(symbol(i).token);
  }
}

std::string const& Tokenizer::decode(int token) const {
  return bytes_.at(static_cast<std::size_t>(token));
}

std::string Tokenizer::decode(std::span<int const> tokens) const {
  std::string text;
  for (int const token : tokens) {
    text += decode(token);
  }
  return text;
}

std::optional<int> Tokenizer::control(std::string_view name) const {
  auto const found = control_.find(std::string(name));
  return found != control_.end() ? std::optional(found->second) : std::nullopt;
}

}  // namespace llama
