#include <kvfreeze/published_presets.hpp>

#include <gpu/cache_twin.hpp>
#include <gpu/rank_twin.hpp>
#include <memory>

namespace kvfreeze::gpu::test {

namespace {

template <class Cache>
std::unique_ptr<HostTwin> make(Shape const& shape, Limits const& limits,
                               typename Cache::scheduler_type const& scheduler) {
  return std::make_unique<CacheTwin<Cache>>(shape, limits, typename Cache::scorer_type{},
                                            scheduler);
}

}  // namespace

std::unique_ptr<HostTwin> make_rank_twin(
    Shape const& shape, Limits const& limits,
    RankLadderScheduler<true, SequenceShares> const& scheduler) {
  return make<presets::ArkvRecalled<>>(shape, limits, scheduler);
}

std::unique_ptr<HostTwin> make_rank_twin(
    Shape const& shape, Limits const& limits,
    RankLadderScheduler<false, SequenceShares> const& scheduler) {
  return make<presets::Arkv<>>(shape, limits, scheduler);
}

std::unique_ptr<HostTwin> make_rank_twin(Shape const& shape, Limits const& limits,
                                         HeadBitsScheduler<> const& scheduler) {
  return make<presets::HeadBits<>>(shape, limits, scheduler);
}

}  // namespace kvfreeze::gpu::test
