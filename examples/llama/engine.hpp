#pragma once

#include "caches.hpp"
#include "decoder.hpp"
#include "json.hpp"
#include "model.hpp"
#include "options.hpp"
#include "run.hpp"
#include "tokenizer.hpp"

#include <cstddef>

namespace llama {

/// @brief A loaded model with what every command needs around it.
class Engine {
 public:
  /// @throws UserError if an option is out of its range for this model
  explicit Engine(CommonOptions const& options);

  [[nodiscard]] ModelShape const& shape() const { return model_.shape(); }

  [[nodiscard]] Model const& model() const { return model_; }

  [[nodiscard]] Tokenizer const& tokenizer() const { return tokenizer_; }

  /// @brief A run through a preset with the options' limits.
  [[nodiscard]] Run make_run(Preset const& preset);

  /// @brief A run through the plain cache, the reference.
  [[nodiscard]] Run make_plain_run();

  /// The cap of `--resident` or `--resident-bytes`; kvfreeze::unlimited where there is none.
  [[nodiscard]] std::size_t cap_bytes() const { return cap_bytes_; }

  /// @brief Puts down what was run: model, preset, limits.
  void put_settings(Json& json, Preset const& preset) const;

 private:
  [[nodiscard]] CacheSettings settings() const;

  CommonOptions options_;
  Model model_;
  Tokenizer tokenizer_;
  Decoder decoder_;
  std::size_t cap_bytes_ = kvfreeze::unlimited;
};

}  // namespace llama
