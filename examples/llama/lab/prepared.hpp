#pragma once

#include "../engine.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace llama::lab {

/// @brief A prompt in a cache of one composition, to be decoded from again and again, under one
/// byte cap after the other.
///
/// The prompt is read without a cap, which is imposed at its end: so do the published methods that
/// compress a prompt. A composition whose cap is fixed when it is made gets it from the first token
/// on. What cannot be saved is read anew each time. Each time the cache is a new one. Where the
/// choice asks for it, the prompt's layer scores are measured and given to the cache at its end.
class Prepared {
 public:
  /// @param choice without a cap of its own; with `context`
  /// @param tick called now and then; what it throws ends the work
  Prepared(Engine& engine, Choice choice, std::span<int const> prompt, std::function<void()> tick);

  /// @brief The run at the end of the prompt, the cap in force.
  /// @param cap bytes, or kvfreeze::unlimited
  /// @throws kvfreeze::CapacityError if the composition cannot work in so little
  Run& under(std::size_t cap);

  /// How the cap came into force the last time: "after the prompt", "from the start" or "none".
  [[nodiscard]] std::string_view protocol() const { return protocol_; }

 private:
  [[nodiscard]] Choice capped(std::size_t cap) const;
  void make_cache(Choice const& choice);
  void read_prompt();
  void begin();
  void give_shares();

  Engine& engine_;
  Choice choice_;
  std::span<int const> prompt_;
  std::function<void()> tick_;
  std::optional<Run> run_;
  std::optional<Snapshot> snapshot_;
  std::vector<float> shares_;  ///< measured on the prompt; empty: not yet
  bool can_limit_ = true;      // until shown otherwise
  std::string_view protocol_ = "none";
};

}  // namespace llama::lab
