#include <kvfreeze/kv_freeze_cache.hpp>

#include <gpu/host_twin.hpp>
#include <memory>
#include <span>
#include <utility>

namespace kvfreeze::gpu::test {

namespace {

template <class Cache>
class Twin final : public HostTwin {
 public:
  template <class... Arguments>
  explicit Twin(Arguments&&... arguments) : cache_(std::forward<Arguments>(arguments)...) {}

  Sequence open() override { return cache_.open(); }

  void close(Sequence handle) override { cache_.close(handle); }

  void attend(Sequence handle, int layer, std::span<float const> q, std::span<float const> k,
              std::span<float const> v, std::span<float> out) override {
    cache_.attend(handle, layer, q, k, v, out);
  }

  StepReport advance(Sequence handle, std::span<float const> logits) override {
    return cache_.advance(handle, logits);
  }

  void fidelities(Sequence handle, int layer, int lane, std::span<Fidelity> out) override {
    cache_.fidelities(handle, layer, lane, out);
  }

 private:
  Cache cache_;
};

template <class T, class Rows, class Digest, class Trigger>
std::unique_ptr<HostTwin> make(Shape const& shape, Limits const& limits,
                               LadderScheduler<> const& scheduler, Trigger const& trigger) {
  using Cache = KvFreezeCache<Layout<T, 1, Grouping::kv_head, Rows>, InstantMassScorer<Digest>,
                              LadderScheduler<>, HostTier, Trigger>;
  return std::make_unique<Twin<Cache>>(shape, limits, InstantMassScorer<Digest>{}, scheduler,
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

template <class T, class Scorer, class Scheduler, class Trigger>
std::unique_ptr<HostTwin> make_rows_twin(Shape const& shape, Limits const& limits,
                                         Scheduler const& scheduler, Trigger const& trigger,
                                         Scorer const& scorer) {
  using Cache = KvFreezeCache<Layout<T>, Scorer, Scheduler, HostTier, Trigger>;
  return std::make_unique<Twin<Cache>>(shape, limits, scorer, scheduler, HostTier(), trigger);
}

template std::unique_ptr<HostTwin> make_ladder_twin<Half>(Shape const&, Limits const&,
                                                          LadderScheduler<> const&,
                                                          NeverTrigger const&);
template std::unique_ptr<HostTwin> make_ladder_twin<Half>(Shape const&, Limits const&,
                                                          LadderScheduler<> const&,
                                                          MissedMassTrigger const&);
template std::unique_ptr<HostTwin> make_flat_twin<BFloat16>(Shape const&, Limits const&,
                                                            LadderScheduler<> const&,
                                                            NeverTrigger const&);

using MassScorer = InstantMassScorer<KeyCodes<4>>;
using DotScorer = MeanAbsDotScorer<KeyCodes<4>>;

// A T, a scorer, a scheduler and a trigger each.
#define KVFREEZE_ROWS_TWIN(T, Scorer, Scheduler, Trigger)       \
  template std::unique_ptr<HostTwin> make_rows_twin<T, Scorer>( \
      Shape const&, Limits const&, Scheduler const&, Trigger const&, Scorer const&)
KVFREEZE_ROWS_TWIN(Half, MassScorer, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, MassScorer, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(float, MassScorer, WaterLevelScheduler<>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, MassScorer, WaterLevelScheduler<true>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, MassScorer, FixedBudgetScheduler, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(Half, RecencyScorer, KeepAllScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(Half, RecencyScorer, OverCapacityScheduler, NeverTrigger);
KVFREEZE_ROWS_TWIN(Half, DotScorer, SublinearScheduler<Thaw::lazy>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(BFloat16, DotScorer, SublinearScheduler<Thaw::lazy>, MissedMassTrigger);
KVFREEZE_ROWS_TWIN(float, MeanAbsDotScorer<>, SublinearScheduler<Thaw::eager>, NeverTrigger);
#undef KVFREEZE_ROWS_TWIN

}  // namespace kvfreeze::gpu::test
