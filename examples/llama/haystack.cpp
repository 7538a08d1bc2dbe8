#include "haystack.hpp"

#include "text.hpp"
#include "user_error.hpp"

#include <algorithm>
#include <array>

namespace llama {

namespace {

constexpr std::size_t longest_sentence = 600;  // bytes; what is longer is no prose
constexpr std::string_view needle_heading =
    "Some facts are hidden inside a lot of irrelevant text. Find them and memorize them.\n";
constexpr std::array<char const*, most_needles> cities{"Paris",  "Oslo",   "Lima",   "Cairo",
                                                       "Tokyo",  "Dublin", "Prague", "Quito",
                                                       "Athens", "Delhi",  "Rome",   "Madrid"};

}  // namespace

Sentences::Sentences(Tokenizer const& tokenizer, std::string_view text)
    : tokenizer_(tokenizer), sentences_(split_sentences(text)) {
  std::erase_if(sentences_, [](std::string const& s) { return s.size() > longest_sentence; });
}

std::vector<std::string> Sentences::take(int tokens) {
  std::vector<std::string> taken;
  for (int have = 0; have < tokens; ++at_) {
    if (at_ == sentences_.size()) {
      throw UserError("the text has too few sentences: " + std::to_string(tokens - have) +
                      " tokens more are needed");
    }
    have += static_cast<int>(tokenizer_.encode(sentences_[at_]).size());
    taken.push_back(sentences_[at_]);
  }
  return taken;
}

std::vector<std::vector<int>> cut_pieces(Tokenizer const& tokenizer, std::string_view text,
                                         std::string const& name, std::size_t offset, int length,
                                         int pieces) {
  if (offset >= text.size()) {
    throw UserError("--offset " + std::to_string(offset) + " is past the end of '" + name + "' (" +
                    std::to_string(text.size()) + " bytes)");
  }
  auto const size = static_cast<std::size_t>(length);
  std::size_t const needed = size * static_cast<std::size_t>(pieces);
  // A token is rarely longer than 16 bytes on average: what comes later is not worth encoding.
  std::string_view const part = text.substr(offset, 16 * needed + 4096);
  std::vector<int> const tokens = tokenizer.encode(part);
  if (tokens.size() < needed) {
    throw UserError("the text '" + name + "' has " + std::to_string(tokens.size()) +
                    " tokens from byte " + std::to_string(offset) + " on, but " +
                    std::to_string(needed) + " are needed (--context x --chunks)");
  }
  std::vector<std::vector<int>> result;
  for (std::size_t at = 0; at < needed; at += size) {
    auto const first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
    result.emplace_back(first, first + length);
  }
  return result;
}

std::string passkey_needle(std::string const& key) {
  return "\nThe pass key is " + key + ". Remember it. " + key + " is the pass key.\n ";
}

std::string random_passkey(std::mt19937& random) {
  return std::to_string(10000 + random() % 90000);
}

std::vector<Needle> random_needles(std::size_t count, std::mt19937& random) {
  std::vector<std::string> names(cities.begin(), cities.end());
  std::vector<Needle> needles;
  while (needles.size() < count) {
    std::size_t const pick = random() % names.size();
    std::string const name = names[pick];
    names.erase(names.begin() + static_cast<std::ptrdiff_t>(pick));
    needles.push_back({name, std::to_string(1000000 + random() % 9000000)});
  }
  return needles;
}

NeedleText make_needle_text(Tokenizer const& tokenizer, Sentences& sentences, int length,
                            std::vector<int> const& depths, std::mt19937& random) {
  NeedleText result;
  std::vector<HiddenSentence> hidden;
  int fixed = static_cast<int>(tokenizer.encode(needle_heading).size());
  for (Needle const& needle : random_needles(depths.size(), random)) {
    result.names.push_back(needle.city);
    result.numbers.push_back(needle.number);
    hidden.push_back({depths[hidden.size()], needle_sentence(needle.city, needle.number)});
    fixed += static_cast<int>(tokenizer.encode(hidden.back().text).size());
  }
  fixed += static_cast<int>(tokenizer.encode(needle_question(result.names.back())).size());
  result.text = std::string(needle_heading) +
                hide_sentences(sentences.take(std::max(length - fixed, 1)), hidden);
  return result;
}

std::string needle_sentence(std::string const& city, std::string const& number) {
  return "The special magic number for " + city + " is " + number + ". ";
}

std::string needle_question(std::string const& city) {
  return "\nWhat is the special magic number for " + city + "? The special magic number for " +
         city + " is";
}

std::string needle_question_for_all(std::vector<std::string> const& names) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    list += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  return "\nWhat are the special magic numbers for " + list + "? The special magic numbers for " +
         list + " are";
}

}  // namespace llama
