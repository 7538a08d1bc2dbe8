#include "prose.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

namespace llama {

std::string_view const default_prompt =
    "I am preparing a talk for people who have never worked with computers, about how machines "
    "remember things. I would like to begin with something familiar: a kitchen. The cook keeps a "
    "few things on the worktop, because they are needed at every moment. Other things are in the "
    "cupboard, one step away. What is needed once a week is in the cellar, and what is needed "
    "once a year has to be bought. Nobody would put all of the food on the worktop, and nobody "
    "would walk to the market for every pinch of salt.\n\n"
    "The same holds for a library. The librarian has the newest books on a small table near the "
    "entrance, the popular ones on the shelves of the hall, and a hundred thousand old ones in "
    "the basement. When a reader asks for an old book, somebody goes down, finds it and brings it "
    "up; for a few days it stays in the hall, in case somebody else asks for it. A good librarian "
    "knows which books will be asked for tomorrow, and brings them up tonight.\n\n"
    "Please write a long answer in several paragraphs. Explain what the two examples have in "
    "common, how a computer uses the same idea with its caches, its main memory and its disks, "
    "why it is so hard to guess what will be needed next, and what happens when the guess is "
    "wrong. End with some advice for everyday life.";

std::string hide_sentences(std::vector<std::string> const& sentences,
                           std::vector<HiddenSentence> hidden) {
  std::stable_sort(hidden.begin(), hidden.end(),
                   [](auto const& a, auto const& b) { return a.depth < b.depth; });
  std::size_t const size =
      std::accumulate(sentences.begin(), sentences.end(), std::size_t{0},
                      [](std::size_t sum, std::string const& s) { return sum + s.size(); });
  std::string text;
  std::size_t told = 0;
  auto next = hidden.begin();
  auto const hide_up_to_here = [&] {
    for (; next != hidden.end() && told * 100 >= static_cast<std::size_t>(next->depth) * size;
         ++next) {
      text += next->text;
    }
  };
  hide_up_to_here();
  for (std::string const& sentence : sentences) {
    text += sentence;
    told += sentence.size();
    hide_up_to_here();
  }
  return text;
}

std::string filler_prose(int sentences, std::uint64_t seed) {
  static constexpr std::array openings{"In the morning",
                                       "After the long winter",
                                       "Some years later",
                                       "On the other side of the hill",
                                       "Before anyone noticed",
                                       "With great care",
                                       "At the end of the harbour road",
                                       "While the rain was falling",
                                       "According to the old map",
                                       "Without a word",
                                       "During the festival"};
  static constexpr std::array subjects{
      "the clockmaker",      "a young engineer",    "the captain of the ferry",  "our neighbour",
      "the village council", "a travelling actor",  "the keeper of the archive", "an old friend",
      "the head gardener",   "a group of students", "the second violinist",      "her grandmother",
      "the bridge inspector"};
  static constexpr std::array actions{"repaired",  "described", "forgot",     "painted",
                                      "measured",  "sold",      "discovered", "borrowed",
                                      "explained", "carried",   "hid",        "collected",
                                      "drew",      "counted",   "translated"};
  static constexpr std::array objects{
      "the broken telescope",     "a box of letters",       "the plan of the aqueduct",
      "seven copper coins",       "the story of the flood", "a small wooden boat",
      "the names of the streets", "an unfinished portrait", "the recipe for dark bread",
      "a list of rare birds",     "the keys of the mill",   "two barrels of salt",
      "the rules of the game",    "a song about the sea",   "the northern gate",
      "a theory of tides",        "the oldest apple tree"};
  std::uint64_t state = seed;
  auto const pick = [&](auto const& choices) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return choices[static_cast<std::size_t>(state >> 33U) % choices.size()];
  };
  std::string text;
  for (int i = 0; i < sentences; ++i) {
    text += std::string(pick(openings)) + ", " + pick(subjects) + " " + pick(actions) + " " +
            pick(objects) + ", and " + pick(subjects) + " " + pick(actions) + " " + pick(objects) +
            ". ";
  }
  return text;
}

}  // namespace llama
