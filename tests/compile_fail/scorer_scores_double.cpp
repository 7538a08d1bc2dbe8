// expect: ScoreReturnsFloat
#include <kvfreeze/concepts.hpp>

#ifdef KVFREEZE_FIXED
using Score = float;
#else
using Score = double;
#endif

struct Broken {
  using State = kvfreeze::NoState;
  static constexpr kvfreeze::Evidence evidence = kvfreeze::Evidence::mass;

  void update(State&, kvfreeze::RowEvidence const&) const noexcept {}

  Score score(State const&, kvfreeze::RowEvidence const& row) const noexcept { return row.mass; }
};

static_assert(kvfreeze::ScorerPolicy<Broken>);
