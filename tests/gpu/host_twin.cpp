#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/presets.hpp>

#include <gpu/cache_twin.hpp>
#include <gpu/host_twin.hpp>
#include <memory>

namespace kvfreeze::gpu::test {

namespace {

template <class T, class Rows, class Digest, class Trigger>
std::unique_ptr<HostTwin> make(Shape const& shape, Limits const& limits,
                               LadderScheduler<> const& scheduler, Trigger const& trigger) {
  using Cache = KvFreezeCache<Layout<T, 1, Grouping::kv_head, Rows>, InstantMassScorer<Digest>,
                              LadderScheduler<>, HostTier, Trigger>;
  return std::make_unique<CacheTwin<Cache>>(shape, limits, InstantMassScorer<Digest>{}, scheduler,
                                            HostTier(), trigger);
}

}  // namespace

template <class T, class Trigger>
std::unique_ptr<HostTwin> make_ladder_twin(Shape const& shape, Limits const& limits,
                                           LadderScheduler<> const& scheduler,
                                           Trigger const& trigger) {
  return make<T, LadderRows, NestedKeyCodes<1, 5>>(shape, limits, scheduler, trigger);
}

template <class T, class Trigger>
std::unique_ptr<HostTwin> make_flat_twin(Shape const& shape, Limits const& limits,
                                         LadderScheduler<> const& scheduler,
                                         Trigger const& trigger) {
  return make<T, CompactRows<CompactLevel<4, 4>>, KeyCodes<4>>(shape, limits, scheduler, trigger);
}

template <int Bits, class T>
std::unique_ptr<HostTwin> make_uniform_twin(Shape const& shape, Limits const& limits) {
  return std::make_unique<CacheTwin<presets::UniformQuantised<Bits, T>>>(shape, limits);
}

template std::unique_ptr<HostTwin> make_uniform_twin<2, Half>(Shape const&, Limits const&);
template std::unique_ptr<HostTwin> make_uniform_twin<3, BFloat16>(Shape const&, Limits const&);
template std::unique_ptr<HostTwin> make_uniform_twin<4, Half>(Shape const&, Limits const&);
template std::unique_ptr<HostTwin> make_uniform_twin<8, float>(Shape const&, Limits const&);
template std::unique_ptr<HostTwin> make_ladder_twin<Half>(Shape const&, Limits const&,
                                                          LadderScheduler<> const&,
                                                          EntropyLadderTrigger const&);
template std::unique_ptr<HostTwin> make_ladder_twin<Half>(Shape const&, Limits const&,
                                                          LadderScheduler<> const&,
                                                          NeverTrigger const&);
template std::unique_ptr<HostTwin> make_ladder_twin<Half>(Shape const&, Limits const&,
                                                          LadderScheduler<> const&,
                                                          MissedMassTrigger const&);
template std::unique_ptr<HostTwin> make_flat_twin<BFloat16>(Shape const&, Limits const&,
                                                            LadderScheduler<> const&,
                                                            NeverTrigger const&);

}  // namespace kvfreeze::gpu::test
