#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/tier/request.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace kvfreeze::detail {

/// What a TierWorker is to do: store or load granules that lie side by side, [granule][K, V].
struct TierTask {
  TierKey first;
  std::uint32_t granules = 0;
  std::byte* data = nullptr;  ///< the worker's until the task is done
  std::uint32_t tag = 0;      ///< the asker's
  bool load = false;
};

/// A task that is done, or failed.
struct TierResult {
  TierTask task;
  std::exception_ptr failure;
};

/// @brief A thread that stores to and loads from a tier, one task after the other, for one other
/// thread. Between the two there are no locks, and nothing is allocated.
/// @tparam Tier model of TierPolicy
template <TierPolicy Tier>
class TierWorker {
 public:
  /// @param most_tasks that are under way or not yet taken, at a time
  /// @param most_granules of a task
  /// @throws what the tier throws
  TierWorker(Tier tier, TierGeometry const& geometry, std::size_t most_tasks,
             std::uint32_t most_granules)
      : tier_(std::move(tier)),
        part_bytes_(geometry.part_bytes),
        tasks_(most_tasks + 1),  // one more than ever wait: the thread is told to end by a task
        results_(most_tasks) {
    attach_tier(tier_, geometry);
    stores_.reserve(most_granules);
    loads_.reserve(most_granules);
    bytes_.store(tier_.bytes(), std::memory_order_relaxed);
    thread_ = std::thread([this] { run(); });
  }

  TierWorker(TierWorker const&) = delete;
  TierWorker& operator=(TierWorker const&) = delete;
  TierWorker(TierWorker&&) = delete;
  TierWorker& operator=(TierWorker&&) = delete;

  /// Finishes the tasks under way.
  ~TierWorker() {
    push({});
    thread_.join();
  }

  /// @pre fewer than `most_tasks` are under way; the task has granules
  void submit(TierTask const& task) noexcept {
    KVFREEZE_ASSERT(task.granules > 0 && under_way_ < results_.size());
    under_way_ += 1;
    push(task);
  }

  /// Tasks submitted whose result was not taken.
  [[nodiscard]] std::size_t under_way() const noexcept { return under_way_; }

  /// The next result, if there is one.
  [[nodiscard]] std::optional<TierResult> poll() noexcept {
    return done_.load(std::memory_order_acquire) == taken_ ? std::nullopt : std::optional(take());
  }

  /// @brief Waits for the next result. @pre a task is under way
  [[nodiscard]] TierResult wait() noexcept {
    done_.wait(taken_, std::memory_order_acquire);
    return take();
  }

  /// The tier. @pre nothing is under way
  [[nodiscard]] Tier& tier() noexcept {
    KVFREEZE_ASSERT(under_way_ == 0);
    return tier_;
  }

  /// Bytes that the tier held after the last task, or note_bytes().
  [[nodiscard]] std::size_t bytes() const noexcept {
    return bytes_.load(std::memory_order_relaxed);
  }

  /// After calls to tier(). @pre nothing is under way
  void note_bytes() noexcept { bytes_.store(tier_.bytes(), std::memory_order_relaxed); }

 private:
  void push(TierTask const& task) noexcept {
    std::uint64_t const at = asked_.load(std::memory_order_relaxed);
    tasks_[at % tasks_.size()] = task;
    asked_.store(at + 1, std::memory_order_release);
    asked_.notify_one();
  }

  TierResult take() noexcept {
    TierResult& slot = results_[taken_ % results_.size()];
    TierResult result{slot.task, std::exchange(slot.failure, nullptr)};
    taken_ += 1;
    under_way_ -= 1;
    return result;
  }

  void run() noexcept {
    for (std::uint64_t next = 0;; ++next) {
      asked_.wait(next, std::memory_order_acquire);
      TierTask const task = tasks_[next % tasks_.size()];
      if (task.granules == 0) {
        return;
      }
      TierResult& slot = results_[next % results_.size()];
      slot.task = task;
      try {
        carry_out(task);
      } catch (...) {
        slot.failure = std::current_exception();
      }
      bytes_.store(tier_.bytes(), std::memory_order_relaxed);
      done_.store(next + 1, std::memory_order_release);
      done_.notify_one();
    }
  }

  void carry_out(TierTask const& task) {
    stores_.clear();
    loads_.clear();
    for (std::uint32_t i = 0; i < task.granules; ++i) {
      TierKey key = task.first;
      key.granule += i;
      std::byte* const k = task.data + i * 2 * part_bytes_;
      std::byte* const v = k + part_bytes_;
      if (task.load) {
        loads_.push_back({key, {k, part_bytes_}, {v, part_bytes_}});
      } else {
        stores_.push_back({key, {k, part_bytes_}, {v, part_bytes_}});
      }
    }
    if (task.load) {
      tier_.load(loads_);
    } else {
      tier_.store(stores_);
    }
  }

  Tier tier_;
  std::size_t part_bytes_;
  std::vector<StoreRequest> stores_;  // the thread's
  std::vector<LoadRequest> loads_;    // the thread's
  std::vector<TierTask> tasks_;
  std::vector<TierResult> results_;
  std::uint64_t taken_ = 0;
  std::size_t under_way_ = 0;
  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::uint64_t> asked_{0};
  std::atomic<std::uint64_t> done_{0};
  std::thread thread_;
};

}  // namespace kvfreeze::detail
