// expect: HasScorerState
#include <kvfreeze/concepts.hpp>

#include <array>
#include <vector>

struct Broken {
#ifdef KVFREEZE_FIXED
  using State = std::array<float, 4>;
#else
  using State = std::vector<float>;
#endif
  static constexpr kvfreeze::Evidence evidence = kvfreeze::Evidence::mass;

  void update(State&, kvfreeze::RowEvidence const&) const noexcept {}

  float score(State const&, kvfreeze::RowEvidence const& row) const noexcept { return row.mass; }
};

static_assert(kvfreeze::ScorerPolicy<Broken>);
