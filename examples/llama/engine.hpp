#pragma once

#include "caches.hpp"
#include "choice.hpp"
#include "decoder.hpp"
#include "json.hpp"
#include "model.hpp"
#include "options.hpp"
#include "run.hpp"
#include "tokenizer.hpp"

#include <cstddef>
#include <memory>
#include <optional>

namespace llama {

/// @brief A loaded model with what every command needs around it.
class Engine {
 public:
  /// @throws UserError if an option is out of its range for this model
  explicit Engine(CommonOptions const& options);

  [[nodiscard]] ModelShape const& shape() const { return model_.shape(); }

  [[nodiscard]] Model const& model() const { return model_; }

  [[nodiscard]] Tokenizer const& tokenizer() const { return tokenizer_; }

  /// @brief A run through a preset, with its own settings or else the options'.
  [[nodiscard]] Run make_run(Choice const& choice);

  /// @brief A run through any cache of the model's shape.
  [[nodiscard]] Run make_run(std::unique_ptr<AttentionCache> cache);

  /// @brief A run through the plain cache, the reference.
  /// @param context the most tokens; the options' where not given
  [[nodiscard]] Run make_plain_run(std::optional<int> context = {});

  /// @brief What a choice comes to: its own settings, and the options' where it has none.
  [[nodiscard]] CacheSettings settings(Choice const& choice) const;

  /// @brief The cap on resident bytes; kvfreeze::unlimited where there is none.
  [[nodiscard]] std::size_t cap_bytes(Choice const& choice) const {
    return settings(choice).limits.resident_bytes;
  }

  /// @brief Puts down what was run: model, preset, limits.
  void put_settings(Json& json, Choice const& choice) const;

 private:
  CommonOptions options_;
  Model model_;
  Tokenizer tokenizer_;
  Decoder decoder_;
};

}  // namespace llama
