#pragma once

#include <kvfreeze/report.hpp>
#include <kvfreeze/types.hpp>

#include <cstddef>
#include <iosfwd>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// Where frozen rows live.
enum class TierChoice { host, in_place };

/// A field of a cache's scheduler or scorer, by name.
struct Knob {
  std::string name;
  double value = 0.0;
};

/// What the command line says about a cache.
struct CacheSettings {
  kvfreeze::Shape shape;
  kvfreeze::Limits limits;
  TierChoice tier = TierChoice::host;
  std::vector<Knob> knobs;  ///< the policies' defaults where not given
  std::string calibration;  ///< file about the lanes, for presets that take one; or see below
};

/// A calibration that is no file: the command measures each prompt and gives the cache its shares.
inline constexpr std::string_view measured_on_prompt = "prompt";

/// @brief A KV cache with one open sequence, whatever its policies.
///
/// The library's caches are templates; here each preset is instantiated in a file of its own and
/// reached through this interface, which costs one virtual call per layer and token.
class AttentionCache {
 public:
  AttentionCache() = default;
  AttentionCache(AttentionCache const&) = delete;
  AttentionCache& operator=(AttentionCache const&) = delete;
  virtual ~AttentionCache() = default;

  /// @brief Appends tokens to a layer and attends to everything before and to themselves.
  virtual void attend(int layer, std::span<float const> q, std::span<float const> k,
                      std::span<float const> v, std::span<float> out, kvfreeze::Part part) = 0;

  /// @brief Ends a step. @param logits of the last token, or nothing
  virtual kvfreeze::StepReport advance(std::span<float const> logits) = 0;

  /// @brief Forgets the tokens from `length` on.
  virtual void truncate(int length) = 0;

  /// @brief Full Reset: every frozen row becomes exact.
  virtual void thaw() = 0;

  /// @brief Forgets everything; the next token is the first.
  virtual void restart() = 0;

  /// @brief Puts another byte cap in force, at once.
  /// @return false if this cache cannot; nothing has changed then
  /// @throws kvfreeze::CapacityError if it cannot hold what it must; the old cap stays
  virtual bool limit(std::size_t) { return false; }

  /// @brief Writes the text so far, for `restore`.
  /// @return false if this cache cannot
  virtual bool save(std::ostream&) { return false; }

  /// @brief Makes a saved text of the same composition the text so far.
  /// @return false if this cache cannot
  virtual bool restore(std::istream&) { return false; }

  /// @brief Gives the lanes their shares, of this text and later ones.
  /// @return false if this cache has none
  virtual bool set_shares(std::span<float const>) { return false; }

  /// Whether a byte cap changes what this cache does; if not, it has one operating point only.
  [[nodiscard]] virtual bool obeys_cap() const { return true; }

  [[nodiscard]] virtual int length() const = 0;
  [[nodiscard]] virtual int lanes_per_layer() const = 0;
  virtual void fidelities(int layer, int lane, std::span<kvfreeze::Fidelity> out) const = 0;

  /// @brief Running entropy of a lane's attention in bits; NaN for caches that do not measure it.
  [[nodiscard]] virtual float attention_entropy(int /*layer*/, int /*lane*/) const {
    return std::numeric_limits<float>::quiet_NaN();
  }

  /// Time spent in `attend` (by one part) and in `advance`, since the cache was made.
  [[nodiscard]] double attend_seconds() const { return attend_seconds_; }

  [[nodiscard]] double advance_seconds() const { return advance_seconds_; }

 protected:
  double attend_seconds_ = 0.0;
  double advance_seconds_ = 0.0;
};

/// A named composition of policies.
struct Preset {
  std::string_view name;
  bool lossless;   ///< after a Full Reset attention is the plain cache's
  bool goes_back;  ///< keeps every row, so that it can forget the newest and go on
  std::string_view description;
  std::unique_ptr<AttentionCache> (*make)(CacheSettings const&);
};

/// @brief All presets, the default one first; those that are only measured beside them last, where
/// they are linked in.
std::span<Preset const> presets();

/// @brief Published systems and variants of our own that are only measured: those of
/// published/registry.cpp or, in a program that should be built quickly, none.
std::span<Preset const> published_presets();

/// @brief By name; case, '-' and '_' do not matter.
/// @throws UserError that lists the names there are
Preset const& find_preset(std::string_view name);

/// @brief What an ordinary cache would hold: K and V of every row in 16 bits.
std::size_t full_bytes(kvfreeze::Shape const& shape, int tokens);

}  // namespace llama
