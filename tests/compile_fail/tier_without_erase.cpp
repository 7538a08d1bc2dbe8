// expect: ErasesRanges
#include <kvfreeze/concepts.hpp>

struct Broken {
  void store(std::span<kvfreeze::StoreRequest const>) {}

  void load(std::span<kvfreeze::LoadRequest const>) {}
#ifdef KVFREEZE_FIXED
  void erase(kvfreeze::TierKey, std::uint32_t) noexcept {}
#endif

  std::size_t bytes() const noexcept { return 0; }
};

static_assert(kvfreeze::TierPolicy<Broken>);
