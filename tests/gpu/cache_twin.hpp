#pragma once

#include <gpu/host_twin.hpp>
#include <span>
#include <utility>

namespace kvfreeze::gpu::test {

/// A KvFreezeCache of the host behind the interface.
template <class Cache>
class CacheTwin final : public HostTwin {
 public:
  template <class... Arguments>
  explicit CacheTwin(Arguments&&... arguments) : cache_(std::forward<Arguments>(arguments)...) {}

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

  void set_shares([[maybe_unused]] Sequence handle,
                  [[maybe_unused]] std::span<float const> shares) override {
    if constexpr (requires { cache_.set_shares(handle, shares); }) {
      cache_.set_shares(handle, shares);
    }
  }

  void fidelities(Sequence handle, int layer, int lane, std::span<Fidelity> out) override {
    cache_.fidelities(handle, layer, lane, out);
  }

 private:
  Cache cache_;
};

}  // namespace kvfreeze::gpu::test
