// expect: SelectsForRecall
#include <kvfreeze/concepts.hpp>

#ifdef KVFREEZE_FIXED
#define MAYBE_NOEXCEPT noexcept
#else
#define MAYBE_NOEXCEPT
#endif

struct Broken {
  kvfreeze::Selection recall(kvfreeze::LaneFacts const&) const MAYBE_NOEXCEPT {
    return kvfreeze::Selection::none();
  }

  kvfreeze::Selection retain(kvfreeze::LaneFacts const&) const noexcept {
    return kvfreeze::Selection::all();
  }

  int sleep(int) const noexcept { return 0; }
};

static_assert(kvfreeze::SchedulerPolicy<Broken>);
