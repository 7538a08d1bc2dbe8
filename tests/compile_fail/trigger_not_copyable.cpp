// expect: copyable
#include <kvfreeze/concepts.hpp>

#include <memory>

struct Broken {
#ifndef KVFREEZE_FIXED
  std::unique_ptr<int> history;
#endif

  kvfreeze::Recovery observe(kvfreeze::StepSignals const&) noexcept {
    return kvfreeze::Recovery::none;
  }

  void reset() noexcept {}
};

static_assert(kvfreeze::TriggerPolicy<Broken>);
