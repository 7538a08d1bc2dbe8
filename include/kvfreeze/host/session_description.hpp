#pragma once

/// @file
/// @brief What a saved sequence says of the cache that it comes from, in words: the cache that
/// restores it must say the same.

#include <kvfreeze/detail/object_bytes.hpp>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/session_blocks.hpp>
#include <kvfreeze/version.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvfreeze::host {

inline constexpr std::array<char, 8> session_magic{'K', 'V', 'F', 'R', 'E', 'E', 'Z', 'E'};
inline constexpr std::uint32_t session_version = 1;

using SessionDescription = std::vector<std::pair<std::string, std::string>>;

/// The same digits in every locale; they give the float back.
inline std::string exact_digits(float value) {
  std::array<char, 32> text;
  char* const end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

template <class C>
SessionDescription describe_session(Context<C> const& context) {
  using kvfreeze::detail::settings_of;
  using kvfreeze::detail::type_name;
  Geometry const& g = context.geometry();
  using Digest = typename C::Digest;
  using Value = typename C::Value;
  auto const number = [](auto value) { return std::to_string(value); };
  std::string levels;
  for (std::size_t level = 0; level < C::levels; ++level) {
    levels += (level > 0 ? ", " : "") + number(C::CompactRows::key_bits[level]) + "-bit keys, " +
              number(C::CompactRows::value_bits[level]) + "-bit values";
  }
  std::string const version = number(KVFREEZE_VERSION_MAJOR) + "." +
                              number(KVFREEZE_VERSION_MINOR) + "." + number(KVFREEZE_VERSION_PATCH);
  std::string const flags = std::string(C::sleeps ? ", sleeps" : "") +
                            (kvfreeze::detail::is_timed<typename C::Scheduler>() ? ", timed" : "") +
                            (kvfreeze::detail::is_eager<typename C::Scheduler>() ? ", eager" : "");
  return {
      {"library", version},
      {"Shape::layers", number(g.shape.layers)},
      {"Shape::query_heads", number(g.shape.query_heads)},
      {"Shape::kv_heads", number(g.shape.kv_heads)},
      {"Shape::head_dim", number(g.shape.head_dim)},
      {"factor of q.k in octaves, from Shape::scale,", exact_digits(g.octaves)},
      {"element type", std::is_same_v<Value, float>  ? "float"
                       : std::is_same_v<Value, Half> ? "Half"
                                                     : "BFloat16"},
      {"PageTokens", number(C::page)},
      {"Grouping", C::Layout::grouping == Grouping::layer ? "layer" : "kv_head"},
      {"compact levels", levels.empty() ? "none" : levels},
      {"digest", type_name<Digest>() + ", groups of " + number(Digest::group_rows) + ", " +
                     number(kvfreeze::detail::digest_bits<Digest>()) + " of " +
                     number(kvfreeze::detail::digest_total_bits<Digest>()) + " bits, " +
                     number(Digest::bytes(g.shape.head_dim)) + " bytes"},
      {"scorer", type_name<typename C::Scorer>() + ", evidence " +
                     number(static_cast<int>(C::Scorer::evidence)) + ", state of " +
                     number(C::has_state ? sizeof(typename C::Scorer::State) : 0) + " bytes, " +
                     number(g.window_queries) + " queries"},
      {"fingerprint of the scorer's settings", settings_of(context.scorer)},
      {"scheduler", type_name<typename C::Scheduler>() + flags},
      {"fingerprint of the scheduler's settings", settings_of(context.scheduler)},
      {"kind of tier", C::in_place   ? "in place"
                       : C::discards ? "discarding"
                                     : "holding"},
      {"trigger",
       type_name<typename C::Trigger>() + ", " + number(sizeof(typename C::Trigger)) + " bytes"},
      {"fingerprint of the trigger's settings", settings_of(context.trigger)},
      {"Limits::sinks", number(g.limits.sinks)},
      {"Limits::window", number(g.limits.window)},
  };
}

template <class C>
void write_description(Context<C> const& context, BlockWriter& out) {
  out.raw(std::as_bytes(std::span(session_magic)));
  out.raw(std::as_bytes(std::span(&session_version, 1)));
  out.begin(description_block);
  for (auto const& [what, value] : describe_session(context)) {
    out.text(what);
    out.text(value);
  }
  out.end();
}

/// @throws FormatError saying what differs, with both values
template <class C>
void check_description(Context<C> const& context, BlockReader& in) {
  std::array<char, 8> magic;
  std::uint32_t version = 0;
  in.raw(std::as_writable_bytes(std::span(magic)));
  if (magic != session_magic) {
    throw FormatError("restore(): not a saved sequence of kvfreeze: it does not begin with " +
                      std::string(session_magic.data(), session_magic.size()));
  }
  in.raw(std::as_writable_bytes(std::span(&version, 1)));
  if (version != session_version) {
    throw FormatError("restore(): the format's version is " + std::to_string(version) +
                      ", this library reads " + std::to_string(session_version));
  }
  BlockBytes block = in.next(description_block, 1U << 16);
  for (auto const& [what, value] : describe_session(context)) {
    std::string const other = block.text();
    std::string const theirs = block.text();
    if (other != what) {
      throw FormatError("restore(): the description says " + other + " where it should say " +
                        what);
    }
    if (theirs != value && what != "library" && theirs != "unknown" && value != "unknown") {
      throw FormatError("restore(): " + what + " is " + theirs + " in the saved sequence, " +
                        value + " in this cache");
    }
  }
  block.finish();
}

}  // namespace kvfreeze::host
