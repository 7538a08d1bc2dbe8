// expect: ScoreReturnsFloat
#include <kvfreeze/concepts.hpp>

struct Broken {
  using State = kvfreeze::NoState;
  static constexpr kvfreeze::Evidence evidence = kvfreeze::Evidence::mass;

  void update(State&, kvfreeze::RowEvidence const&) const noexcept {}
#ifdef KVFREEZE_FIXED
  float score(State const&, kvfreeze::RowEvidence const& row) const noexcept { return row.mass; }
#endif
};

static_assert(kvfreeze::ScorerPolicy<Broken>);
