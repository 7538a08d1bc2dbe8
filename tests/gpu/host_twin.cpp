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

  void truncate(Sequence handle, int length) override { cache_.truncate(handle, length); }

  void pin(Sequence handle, std::span<TokenRange const> ranges) override {
    cache_.pin(handle, ranges);
  }

  void thaw(Sequence handle) override { cache_.thaw(handle); }

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
                                         Scheduler const& scheduler, Trigger const& trigger) {
  using Cache = KvFreezeCache<Layout<T>, Scorer, Scheduler, HostTier, Trigger>;
  return std::make_unique<Twin<Cache>>(shape, limits, Scorer{}, scheduler, HostTier(), trigger);
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

template std::unique_ptr<HostTwin> make_rows_twin<Half, MassScorer>(Shape const&, Limits const&,
                                                                    WaterLevelScheduler<> const&,
                                                                    MissedMassTrigger const&);
template std::unique_ptr<HostTwin> make_rows_twin<BFloat16, MassScorer>(
    Shape const&, Limits const&, WaterLevelScheduler<> const&, MissedMassTrigger const&);
template std::unique_ptr<HostTwin> make_rows_twin<float, MassScorer>(Shape const&, Limits const&,
                                                                     WaterLevelScheduler<> const&,
                                                                     MissedMassTrigger const&);
template std::unique_ptr<HostTwin> make_rows_twin<Half, MassScorer>(Shape const&, Limits const&,
                                                                    FixedBudgetScheduler const&,
                                                                    MissedMassTrigger const&);
template std::unique_ptr<HostTwin> make_rows_twin<Half, RecencyScorer>(Shape const&, Limits const&,
                                                                       KeepAllScheduler const&,
                                                                       NeverTrigger const&);
template std::unique_ptr<HostTwin> make_rows_twin<Half, RecencyScorer>(Shape const&, Limits const&,
                                                                       OverCapacityScheduler const&,
                                                                       NeverTrigger const&);

}  // namespace kvfreeze::gpu::test
