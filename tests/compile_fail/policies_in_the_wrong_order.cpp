// expect: ScorerPolicy
#include <kvfreeze/kv_freeze_cache.hpp>

#include "policies.hpp"

#ifdef KVFREEZE_FIXED
using Cache = kvfreeze::KvFreezeCache<kvfreeze::Layout<>, Scorer, Scheduler, Tier, Trigger>;
#else
using Cache = kvfreeze::KvFreezeCache<kvfreeze::Layout<>, Scheduler, Scorer, Tier, Trigger>;
#endif

Cache* cache = nullptr;
