#pragma once

#include "../engine.hpp"
#include "../json.hpp"
#include "grid.hpp"
#include "subjects.hpp"

#include <functional>
#include <string>
#include <vector>

namespace llama::lab {

/// A composition under test.
struct System {
  Choice choice;
  SystemName name;
};

/// Who measures, and when.
struct Provenance {
  std::string machine;  ///< the processor's name
  std::string commit;
};

/// @brief The name, settings and operating points of each preset.
/// @param leave_out told why a preset cannot be made as it is; true: go on without it
/// @throws UserError for settings that a preset does not have, or a cap among them
std::vector<System> make_systems(Engine& engine, std::vector<Choice> const& choices, int context,
                                 std::function<bool(std::string const&)> const& leave_out);

/// @brief Measures the cells of one subject.
class Measurement {
 public:
  /// @param tick called between steps; what it throws ends the work
  Measurement(Engine& engine, Circumstances circumstances, Provenance provenance,
              std::function<void()> tick);

  /// What happens around a cell.
  struct Callbacks {
    std::function<bool(std::string const& key)> wanted;
    std::function<void(std::string const& label, Fraction const& fraction)> begins;
    std::function<void(Json const& cell)> done;
  };

  /// @brief Measures what is wanted of one subject, system by system, fractions in rising order.
  /// Caches that cannot reach a fraction, and those that fail, make a cell too.
  void measure(Subject const& subject, std::vector<System> const& systems,
               std::vector<Fraction> const& fractions, Callbacks const& callbacks);

 private:
  Engine& engine_;
  Circumstances circumstances_;
  Provenance provenance_;
  std::function<void()> tick_;
};

}  // namespace llama::lab
