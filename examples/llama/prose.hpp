#pragma once

#include <string>
#include <string_view>

namespace llama {

/// What `generate` is asked when the user asks nothing.
extern std::string_view const default_prompt;

/// @brief English-like sentences that do not repeat, for filling a cache.
std::string filler_prose(int sentences);

}  // namespace llama
