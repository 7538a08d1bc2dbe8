#pragma once

#include "tokenizer.hpp"

#include <string>

namespace llama {

/// How a byte is spelt in a tokenizer's table.
inline std::string spelling(unsigned byte) {
  // GPT-2's table, built the slow way as a second opinion.
  unsigned next = 256;
  unsigned code = 0;
  for (unsigned b = 0; b <= byte; ++b) {
    bool const printable =
        (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
    code = printable ? b : next++;
  }
  if (code < 0x80) {
    return {static_cast<char>(code)};
  }
  return {static_cast<char>(0xC0U | (code >> 6U)), static_cast<char>(0x80U | (code & 0x3FU))};
}

/// A token for each byte and no other.
inline Vocabulary byte_vocabulary() {
  Vocabulary v;
  for (unsigned byte = 0; byte < 256; ++byte) {
    v.pieces.push_back(spelling(byte));
  }
  return v;
}

}  // namespace llama
