#pragma once

/// @file
/// @brief Everything that a cache on the device owns.

#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/no_tier.cuh>
#include <kvfreeze/gpu/detail/pin_kernels.cuh>
#include <kvfreeze/gpu/detail/recall_memory.cuh>
#include <kvfreeze/gpu/detail/sequence_kernels.cuh>
#include <kvfreeze/gpu/detail/step_memory.cuh>
#include <kvfreeze/gpu/detail/truncate_kernels.cuh>
#include <kvfreeze/gpu/detail/whole_rows.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/paged_view.cuh>
#include <kvfreeze/gpu/pinned_tier.cuh>
#include <kvfreeze/gpu/spilling_options.cuh>
#include <kvfreeze/report.hpp>
#include <kvfreeze/types.hpp>

#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvfreeze::gpu::detail {

/// Pages that sequences of full length need: all rows exact, their digests, and some more for rows
/// that are exact and coded while they change.
template <class C>
std::size_t pages_of(Geometry const& g) {
  std::size_t const rows = g.segment[rows_segment].most_pages;
  std::size_t const lane = rows + rows / 8 + g.segment[digests_segment].most_pages + 1 +
                           2 * static_cast<std::size_t>(C::levels);
  return lane * static_cast<std::size_t>(g.lanes) * static_cast<std::size_t>(g.max_sequences);
}

/// What a tier without settings is told.
struct NoSettings {};

template <class Tier>
struct SettingsOf {
  using type = NoSettings;
};

template <>
struct SettingsOf<PinnedTier> {
  using type = PinnedTierOptions;
};

template <TierPolicy Lower>
struct SettingsOf<SpillingTier<Lower>> {
  using type = SpillingTierSettings<Lower>;
};

/// What the caller says of its cache's tier.
template <class C>
using TierSettings = typename SettingsOf<typename C::DeviceTier>::type;

/// @brief The cache's arrays. Their addresses stay the same, so that graphs may hold them.
template <class C>
class CacheStorage {
 public:
  using Tier = std::conditional_t<C::stores, typename C::DeviceTier, NoTier>;

  /// @throws InvalidArgument for the tier's settings
  /// @throws OutOfMemory, CudaError, what a lower tier throws
  /// @throws CapacityError with the least cap, if it is below
  CacheStorage(Geometry const& g, typename C::Scorer const& scorer, std::size_t resident_bytes,
               TierSettings<C> settings)
      : geometry_(g),
        scorer_(scorer),
        free_count_(1),
        lanes_(lane_count()),
        tables_(array_bytes(lane_count(), g.table_pages)),
        states_(array_bytes(lane_count(), static_cast<std::size_t>(g.max_granules))),
        plans_(states_.size()),
        leaving_(C::has_levels ? array_bytes(lane_count(),
                                             static_cast<std::size_t>(C::levels * leaving_words(g)))
                               : 0),
        importance_(array_bytes(lane_count(), static_cast<std::size_t>(g.row_elements))),
        means_(importance_.size()),
        pins_(array_bytes(static_cast<std::size_t>(g.max_sequences),
                          static_cast<std::size_t>(g.pin_words))),
        changed_(C::has_levels ? 0 : states_.size()),
        timers_(C::sleeps ? states_.size() : 0),
        alarms_(C::sleeps ? array_bytes(lane_count(),
                                        static_cast<std::size_t>(alarm_count(g.max_granules)))
                          : 0),
        scores_(C::has_state ? states_.size() : 0),
        saved_(C::saves_counts ? states_.size() : 0),
        ring_(C::needs_queries ? array_bytes(lane_count(), ring_elements(g)) : 0),
        previous_(C::needs_cosine ? array_bytes(lane_count(), static_cast<std::size_t>(
                                                                  g.lane_queries * g.head_dim))
                                  : 0),
        lists_(C::in_place ? states_.size() : 0),
        moments_(C::rates ? array_bytes(lane_count(), moment_floats(g)) : 0),
        lone_scores_(C::lists_scores ? states_.size() : 0),
        lag_scores_(C::lags ? 2 * states_.size() : 0),
        mean_entropy_(C::needs_entropy ? static_cast<std::size_t>(g.max_sequences) : 0),
        batch_(static_cast<std::size_t>(g.max_sequences)),
        steps_(batch_.size()),
        sequences_(batch_.size()),
        reports_(2 * batch_.size()),
        status_(1),
        tier_(make_tier(g, std::move(settings))),
        step_(g),
        recall_(g),
        page_count_(pages_within(resident_bytes)),
        pages_(array_bytes(page_count_, g.page_bytes)),
        free_list_(page_count_) {
    if (resident_bytes != unlimited) {
      geometry_.room =
          static_cast<std::uint32_t>(page_count_ / static_cast<std::size_t>(g.max_sequences));
    }
    for (DeviceReport& report : reports_) {
      report = DeviceReport{};
    }
    status_[0] = 0;
    grown_.reserve(batch_.size());
    constexpr int threads = 256;
    fill_pool_kernel<threads><<<blocks_for(page_count_, threads), threads>>>(
        pool(), static_cast<std::int32_t>(page_count_));
    check_launch("fill_pool_kernel");
    check(cudaMemset(steps_.data(), 0, steps_.size_bytes()), "cudaMemset");
    check(cudaMemset(plans_.data(), 0, plans_.size_bytes()), "cudaMemset");
    // After a rewind the caller may ask for rows that its sequence does not have.
    check(cudaMemset(states_.data(), 0, states_.size_bytes()), "cudaMemset");
    check(cudaMemset(pins_.data(), 0, pins_.size_bytes()), "cudaMemset");
    check(cudaMemset(alarms_.data(), 0xFF, alarms_.size_bytes()), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // streams do not wait for these
  }

  [[nodiscard]] Geometry const& geometry() const noexcept { return geometry_; }

  [[nodiscard]] typename C::Scorer const& scorer() const noexcept { return scorer_; }

  /// What kernels are told.
  [[nodiscard]] CacheMemory view() const noexcept {
    CacheMemory memory;
    memory.pool = pool();
    memory.lanes = lanes_.data();
    memory.tables = tables_.data();
    memory.states = states_.data();
    memory.plans = plans_.data();
    memory.leaving = leaving_.data();
    memory.importance = importance_.data();
    memory.means = means_.data();
    memory.pins = pins_.data();
    memory.changed = changed_.data();
    memory.timers = timers_.data();
    memory.alarms = alarms_.data();
    memory.scores = scores_.data();
    memory.saved = saved_.data();
    memory.ring = ring_.data();
    memory.previous = previous_.data();
    memory.lists = lists_.data();
    memory.moments = moments_.data();
    memory.lone_scores = lone_scores_.data();
    memory.lag_scores = lag_scores_.data();
    memory.mean_entropy = mean_entropy_.data();
    if constexpr (C::spills) {
      memory.spilled = tier_.rows();
    } else if constexpr (C::stores) {
      memory.tier = tier_.slots().slabs.data();
    }
    return memory;
  }

  /// @throws OutOfMemory, CudaError; the sequence stays closed
  void open(std::uint32_t index, typename C::Trigger const& trigger, ::cuda::stream_ref stream) {
    if constexpr (C::spills) {
      tier_.open(index);
    } else {
      tier_.open(index, stream);
      if (!tier_.is_pinned()) {
        std::string const warning = tier_.warning();
        abandon(index, stream);
        throw OutOfMemory("open(): kernels must reach the tier: " + warning, tier_.slab_bytes());
      }
    }
    reports_[2 * index] = reports_[2 * index + 1] = DeviceReport{};
    try {
      pin({}, index, stream);
      constexpr int threads = 128;
      open_kernel<C, threads><<<static_cast<unsigned>(geometry_.lanes), threads, 0, stream.get()>>>(
          geometry_, view(), index, steps_.data(), sequences_.data(), trigger);
      check_launch("open_kernel");
    } catch (CudaError const&) {
      abandon(index, stream);
      throw;
    }
  }

  /// Rows in these ranges are exact from now on, others no longer for that reason.
  void pin(std::span<TokenRange const> ranges, std::uint32_t index, ::cuda::stream_ref stream) {
    std::uint32_t* const pins = pins_.data() + static_cast<std::size_t>(index) *
                                                   static_cast<std::size_t>(geometry_.pin_words);
    constexpr int threads = 128;
    std::size_t first = 0;
    do {
      PinPart part;
      part.count = static_cast<int>(std::min(ranges.size() - first, std::size_t{PinPart::most}));
      std::copy_n(ranges.begin() + static_cast<std::ptrdiff_t>(first), part.count, part.range);
      set_pins_kernel<threads>
          <<<blocks_for(static_cast<std::size_t>(geometry_.pin_words), threads), threads, 0,
             stream.get()>>>(pins, geometry_.pin_words, first == 0, part);
      check_launch("set_pins_kernel");
      first += PinPart::most;
    } while (first < ranges.size());
  }

  /// The lanes of a sequence get their shares.
  void set_shares(std::span<float const> shares, std::uint32_t index, ::cuda::stream_ref stream) {
    LaneState* const lanes =
        lanes_.data() + static_cast<std::size_t>(index) * static_cast<std::size_t>(geometry_.lanes);
    for_value_parts<float>(
        shares.size(), [&](std::size_t lane) { return shares[lane]; },
        [&](ValuePart<float> const& part, std::size_t first) {
          constexpr int most = ValuePart<float>::most;
          set_shares_kernel<most><<<1, most, 0, stream.get()>>>(lanes + first, part);
          check_launch("set_shares_kernel");
        });
  }

  /// Flags the rows that are there as the sequence's pins say.
  void pin_rows(std::uint32_t index, ::cuda::stream_ref stream) {
    constexpr int threads = 128;
    pin_rows_kernel<C, threads>
        <<<static_cast<unsigned>(geometry_.lanes), threads, 0, stream.get()>>>(geometry_, view(),
                                                                               index);
    check_launch("pin_rows_kernel");
  }

  /// @brief The tier makes room for a step's rows, and learns what earlier ones missed.
  /// @param lengths lengths(handle): of a sequence, before the step
  /// @param tokens of the step
  /// @throws as SpillingTier::begin_step(); the step has not begun
  template <class Lengths>
  void begin_step([[maybe_unused]] std::span<Sequence const> batch,
                  [[maybe_unused]] Lengths const& lengths, [[maybe_unused]] int tokens,
                  [[maybe_unused]] ::cuda::stream_ref stream) {
    if constexpr (C::spills) {
      grown_.clear();
      for (Sequence const handle : batch) {
        int const length = lengths(handle);
        auto const written = static_cast<std::uint32_t>(granules_of<C>(length));
        if (tier_.granules(handle.index) > written) {  // a step had begun, and was given up
          tier_.truncate(handle.index, written, stream);
        }
        auto const grown = static_cast<std::uint32_t>(granules_of<C>(length + tokens));
        grown_.push_back({handle.index, grown, C::rewalks ? grown - settled_granules(length) : 0});
      }
      tier_.begin_step(grown_, stream);
    }
  }

  /// @brief Has the rows in pinned memory that truncate() brings back: those that are protected
  /// when the sequence is so long.
  /// @param in_step does a step go on?
  /// @throws as SpillingTier::fetch(); nothing changed
  void fetch_owed([[maybe_unused]] std::uint32_t index, [[maybe_unused]] int length,
                  [[maybe_unused]] bool in_step, [[maybe_unused]] ::cuda::stream_ref stream) {
    if constexpr (C::spills) {
      int const first = std::max(length - owed_rows(geometry_), 0) / C::page;
      tier_.fetch(
          {index, 0, static_cast<std::uint32_t>(geometry_.lanes), static_cast<std::uint32_t>(first),
           static_cast<std::uint32_t>(granules_of<C>(length))},
          in_step, stream);
    }
  }

  /// Forgets the rows from `length` on.
  void truncate(std::uint32_t index, int length, ::cuda::stream_ref stream) {
    begin_cut_kernel<C><<<1, 1, 0, stream.get()>>>(sequences_.data(), index, length);
    check_launch("begin_cut_kernel");
    cut({nullptr, index}, 1, nullptr, stream);
    if constexpr (C::spills) {
      tier_.truncate(index, static_cast<std::uint32_t>(granules_of<C>(length)), stream);
    }
  }

  /// The batch's sequences whose trigger asked for it go back. Nothing where no trigger can.
  void rewind_batch(int sequences, ::cuda::stream_ref stream) {
    if constexpr (C::rewalks) {
      cut({batch_.data(), 0}, static_cast<unsigned>(sequences), reports_.device(), stream);
    }
  }

  /// Every row exact, in position order.
  /// @param length of the sequence
  /// @param in_step does a step go on?
  void thaw(std::uint32_t index, int length, bool in_step, ::cuda::stream_ref stream) {
    for_lanes_here(index, length, 0, geometry_.lanes, in_step, stream, [&](int first, int lanes) {
      thaw_lanes(index, static_cast<std::uint32_t>(first), static_cast<unsigned>(lanes), stream);
    });
  }

  /// A dense copy of a layer's rows. @see gather_kernel
  /// @param length of the sequence
  /// @param in_step does a step go on?
  void gather(std::uint32_t index, int length, bool in_step, int layer, typename C::Value* k,
              typename C::Value* v, ::cuda::stream_ref stream) {
    constexpr int threads = 128;
    int const layer_begin = layer * geometry_.lanes_per_layer;
    for_lanes_here(
        index, length, layer_begin, geometry_.lanes_per_layer, in_step, stream,
        [&](int first, int lanes) {
          gather_kernel<C, threads>
              <<<dim3(copy_blocks, static_cast<unsigned>(lanes)), threads, 0, stream.get()>>>(
                  geometry_, view(), index, layer, first - layer_begin, k, v);
          check_launch("gather_kernel");
        });
  }

  /// @throws CudaError; the tier's part is kept if it was the pages that could not be given back
  void close(std::uint32_t index, ::cuda::stream_ref stream) {
    close_kernel<C>
        <<<static_cast<unsigned>(geometry_.lanes), 1, 0, stream.get()>>>(geometry_, view(), index);
    check_launch("close_kernel");
    tier_.close(index, stream);
  }

  /// Which sequences take the next step: by the launch's own arguments, so that no memory of the
  /// host has to wait for the stream.
  void set_batch(std::span<Sequence const> batch, ::cuda::stream_ref stream) {
    for_value_parts<std::uint32_t>(
        batch.size(), [&](std::size_t i) { return batch[i].index; },
        [&](ValuePart<std::uint32_t> const& part, std::size_t first) {
          constexpr int most = ValuePart<std::uint32_t>::most;
          set_batch_kernel<most><<<1, most, 0, stream.get()>>>(batch_.data() + first, part);
          check_launch("set_batch_kernel");
        });
  }

  [[nodiscard]] std::uint32_t* batch() const noexcept { return batch_.data(); }

  [[nodiscard]] std::uint32_t* steps() const noexcept { return steps_.data(); }

  [[nodiscard]] SequenceState<C>* sequences() const noexcept { return sequences_.data(); }

  [[nodiscard]] DeviceReport* reports() const noexcept { return reports_.device(); }

  [[nodiscard]] std::uint32_t* status() const noexcept { return status_.device(); }

  [[nodiscard]] StepMemory<C>& step() noexcept { return step_; }

  [[nodiscard]] RecallMemory<C> const& recall() const noexcept { return recall_; }

  [[nodiscard]] Tier const& tier() const noexcept { return tier_; }

  [[nodiscard]] Tier& tier() noexcept { return tier_; }

  /// Where exact rows lie.
  [[nodiscard]] PagedView<typename C::Value> paged() const noexcept {
    using Value = typename C::Value;
    auto const* const base = reinterpret_cast<Value const*>(pages_.data());
    return {base, base + geometry_.values_offset / sizeof(Value),
            geometry_.page_bytes / sizeof(Value), page_count_};
  }

  /// Pages of a sequence all of whose rows are exact, with room for the next one, and for codes
  /// that all of them get in that step.
  [[nodiscard]] std::size_t pages_when_whole(int length) const noexcept {
    std::int32_t const codes[most_levels] = {C::uniform ? length : 0};
    return static_cast<std::size_t>(geometry_.lanes) *
           (row_pages(geometry_, granules_of<C>(length)) + digest_pages<C>(geometry_, length + 1) +
            code_pages<C>(geometry_, codes));
  }

  /// Pages of the pool.
  [[nodiscard]] std::size_t pages() const noexcept { return page_count_; }

  /// What went wrong on the device as far as it is known; forgets it.
  [[nodiscard]] std::uint32_t take_status() noexcept {
    auto* const word = static_cast<std::uint32_t volatile*>(status_.data());
    std::uint32_t const status = *word;
    if (status != 0) {
      *word = 0;
    }
    return status;
  }

  [[nodiscard]] StepReport report(std::uint32_t index) const {
    DeviceReport const found = latest(index);
    StepReport report;
    report.step = found.step;
    report.length = found.length;
    report.rows = found.rows;
    report.full_bytes = static_cast<std::size_t>(found.length) *
                        static_cast<std::size_t>(geometry_.lanes) * 2 * geometry_.row_bytes;
    report.ledger.rows = found.pages[rows_segment] * geometry_.page_bytes;
    report.ledger.digests = found.pages[digests_segment] * geometry_.page_bytes;
    for (int level = 0; level < C::levels; ++level) {
      report.ledger.codes += found.pages[pool_segment(level)] * geometry_.page_bytes;
    }
    report.ledger.metadata = metadata_bytes();
    report.ledger.scratch = step_.bytes() + recall_.bytes();
    report.ledger.tier = tier_.bytes();
    report.touched_bytes = found.touched_bytes;
    report.moved_in_bytes = found.moved_in_bytes;
    report.moved_out_bytes = found.moved_out_bytes;
    report.thawed_rows = found.thawed_rows;
    report.frozen_rows = found.frozen_rows;
    report.deferred_rows = found.deferred_rows;
    report.missed_mass = found.missed_mass;
    report.missed_mass_max = found.missed_mass_max;
    report.water_level = found.water_level;
    report.binding = found.binding;
    report.has_logits = found.has_logits;
    report.entropy = found.entropy;
    report.entropy_change = found.entropy_change;
    report.top_probability = found.top_probability;
    report.recovery = found.recovery;
    if (found.rewind_to >= 0) {
      report.rewind_to = found.rewind_to;
    }
    return report;
  }

  void fidelities(std::uint32_t sequence, int lane, std::span<Fidelity> out,
                  ::cuda::stream_ref stream) const {
    std::size_t const number =
        sequence * static_cast<std::size_t>(geometry_.lanes) + static_cast<std::size_t>(lane);
    std::vector<std::uint8_t> states(
        static_cast<std::size_t>(granules_of<C>(static_cast<int>(out.size()))));
    check(
        cudaMemcpyAsync(states.data(),
                        states_.data() + number * static_cast<std::size_t>(geometry_.max_granules),
                        states.size(), cudaMemcpyDeviceToHost, stream.get()),
        "cudaMemcpyAsync of states");
    stream.wait();
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = host::GranuleState::fidelity(states[i / C::page]);
    }
  }

  [[nodiscard]] std::size_t device_bytes() const noexcept {
    return pages_.size_bytes() + metadata_bytes() + step_.bytes() + recall_.bytes();
  }

 private:
  /// @throws InvalidArgument for the settings; CapacityError if pinned memory is too small for what
  /// a lower tier must never be asked for while kernels wait
  static Tier make_tier(Geometry const& g, [[maybe_unused]] TierSettings<C> settings) {
    TierGeometry const geometry{static_cast<std::uint32_t>(g.max_sequences),
                                static_cast<std::uint32_t>(g.lanes),
                                static_cast<std::uint32_t>(g.max_granules), g.part_bytes};
    if constexpr (C::spills) {
      SpillingTierOptions const& options = settings.options;
      if (options.block_granules < C::span) {
        throw InvalidArgument(
            "SpillingTierOptions::block_granules is " + std::to_string(options.block_granules) +
            ", must be at least the rows of a granule, " + std::to_string(C::span));
      }
      // A block that fills and one that is being written, of each lane, and what a cut brings back:
      // of one sequence, or of each where steps may go back.
      auto const blocks_of = [&](int rows) {
        return static_cast<std::size_t>(rows) / C::page / options.block_granules + 2;
      };
      auto const sequences = static_cast<std::size_t>(g.max_sequences);
      std::size_t const blocks =
          static_cast<std::size_t>(g.lanes) *
          (C::rewalks ? sequences * (blocks_of(g.rewind_reach + owed_rows(g)) + 1)
                      : 2 * sequences + blocks_of(owed_rows(g)));
      std::size_t const least = blocks * options.block_granules * g.granule_bytes();
      if (options.cache_bytes < least) {
        throw CapacityError(
            "SpillingTierOptions::cache_bytes is " + std::to_string(options.cache_bytes) + ", " +
                std::to_string(g.lanes) + " lanes of max_sequences = " +
                std::to_string(g.max_sequences) + " need at least " + std::to_string(least),
            least, options.cache_bytes);
      }
      return Tier(geometry, options, std::move(settings.lower));
    } else if constexpr (C::stores) {
      return Tier(geometry, settings);
    } else {
      return Tier(geometry);
    }
  }

  /// Rows before its end that a sequence may have to bring back when it is cut: the window, and
  /// what no digest holds.
  static int owed_rows(Geometry const& g) noexcept {
    return std::max(g.window + C::page * C::span, C::page * C::tail_granules);
  }

  /// Granules of a sequence that no step writes again before the caller cuts it, nor brings back
  /// as it goes back.
  /// @param length before the step
  [[nodiscard]] std::uint32_t settled_granules(int length) const noexcept {
    int const rows = length - geometry_.rewind_reach - owed_rows(geometry_);
    return static_cast<std::uint32_t>(std::max(rows, 0) / C::page);
  }

  /// @brief Calls f(first, lanes) for lanes [first, first + count) of a sequence in turn, while all
  /// rows of those are in memory that kernels reach.
  template <class F>
  void for_lanes_here([[maybe_unused]] std::uint32_t index, [[maybe_unused]] int length, int first,
                      int count, [[maybe_unused]] bool in_step,
                      [[maybe_unused]] ::cuda::stream_ref stream, F const& f) {
    if constexpr (C::spills) {
      auto const granules = static_cast<std::uint32_t>(granules_of<C>(length));
      int const end = first + count;
      while (first < end) {
        auto const most = static_cast<int>(tier_.fetchable_lanes(0, granules, in_step, stream));
        int const lanes = std::min(most, end - first);
        tier_.fetch({index, static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(lanes), 0,
                     granules},
                    in_step, stream);
        f(first, lanes);
        first += lanes;
      }
    } else {
      f(first, count);
    }
  }

  void thaw_lanes(std::uint32_t index, std::uint32_t first, unsigned lanes,
                  ::cuda::stream_ref stream) {
    constexpr int threads = 128;
    forget_codes_kernel<C, threads>
        <<<lanes, threads, 0, stream.get()>>>(geometry_, view(), index, first);
    check_launch("forget_codes_kernel");
    if (C::discards && !C::sleeps) {
      return;  // nothing can come back, and nothing is counted
    }
    reset_kernel<C, threads><<<lanes, threads, 0, stream.get()>>>(geometry_, view(), index, first,
                                                                  steps_.data(), status_.device());
    check_launch("reset_kernel");
    load_rows_kernel<C, threads>
        <<<dim3(copy_blocks, lanes), threads, 0, stream.get()>>>(geometry_, view(), index, first);
    check_launch("load_rows_kernel");
  }

  void cut(CutSequences const& who, unsigned sequences, DeviceReport* reports,
           ::cuda::stream_ref stream) {
    constexpr int threads = 128;
    dim3 const grid(static_cast<unsigned>(geometry_.lanes), sequences);
    cut_kernel<C, threads><<<grid, threads, 0, stream.get()>>>(geometry_, view(), who,
                                                               sequences_.data(), steps_.data());
    check_launch("cut_kernel");
    settle_owed_kernel<C, threads><<<grid, threads, 0, stream.get()>>>(
        geometry_, view(), who, sequences_.data(), steps_.data(), status_.device(), reports);
    check_launch("settle_owed_kernel");
  }

  static constexpr std::size_t most_vocabulary = std::size_t{1} << 18;  ///< that a cap has room for
  static constexpr unsigned copy_blocks = 16;  ///< of a lane, where its rows are copied

  /// @brief Pages of the pool: what a cap leaves beside everything else, or enough for all rows.
  /// @throws CapacityError with the least cap, if it is below
  [[nodiscard]] std::size_t pages_within(std::size_t resident_bytes) const {
    if (resident_bytes == unlimited) {
      return pages_of<C>(geometry_);
    }
    std::size_t const fixed =
        fixed_bytes() + step_.bytes() + recall_.bytes() +
        entropy_workspace_bytes(static_cast<std::size_t>(geometry_.max_sequences), most_vocabulary);
    std::size_t const page = geometry_.page_bytes + sizeof(std::uint32_t);
    std::size_t const least_pages = static_cast<std::size_t>(geometry_.lanes) *
                                    static_cast<std::size_t>(geometry_.max_sequences) *
                                    floor_pages<C>(geometry_, geometry_.max_tokens);
    std::size_t const least = fixed + least_pages * page;
    if (resident_bytes < least) {
      throw CapacityError("Limits::resident_bytes is " + std::to_string(resident_bytes) +
                              ", max_sequences = " + std::to_string(geometry_.max_sequences) +
                              " sequences of max_tokens = " + std::to_string(geometry_.max_tokens) +
                              " need at least " + std::to_string(least),
                          least, resident_bytes);
    }
    return std::min((resident_bytes - fixed) / page, pages_of<C>(geometry_));
  }

  static unsigned blocks_for(std::size_t count, int threads) {
    return static_cast<unsigned>((count + static_cast<std::size_t>(threads) - 1) /
                                 static_cast<std::size_t>(threads));
  }

  /// Of the queries that a lane keeps.
  static std::size_t ring_elements(Geometry const& g) noexcept {
    return static_cast<std::size_t>(g.window_queries + 1) *
           static_cast<std::size_t>(g.lane_queries * g.head_dim);
  }

  /// Takes the tier's part of an open() back that failed with something else.
  void abandon(std::uint32_t index, ::cuda::stream_ref stream) noexcept {
    try {
      tier_.close(index, stream);
    } catch (CudaError const&) {  // the memory is given back all the same
    }
  }

  [[nodiscard]] std::size_t lane_count() const noexcept {
    return static_cast<std::size_t>(geometry_.lanes) *
           static_cast<std::size_t>(geometry_.max_sequences);
  }

  [[nodiscard]] PagePool pool() const noexcept {
    return {pages_.data(), free_list_.data(), free_count_.data()};
  }

  [[nodiscard]] std::size_t metadata_bytes() const noexcept {
    return fixed_bytes() + free_list_.size_bytes();
  }

  /// Metadata whatever the number of pages.
  [[nodiscard]] std::size_t fixed_bytes() const noexcept {
    return free_count_.size_bytes() + lanes_.size_bytes() + tables_.size_bytes() +
           states_.size_bytes() + plans_.size_bytes() + leaving_.size_bytes() +
           importance_.size_bytes() + means_.size_bytes() + pins_.size_bytes() +
           changed_.size_bytes() + timers_.size_bytes() + alarms_.size_bytes() +
           saved_.size_bytes() + scores_.size_bytes() + ring_.size_bytes() +
           previous_.size_bytes() + lists_.size_bytes() + moments_.size_bytes() +
           lone_scores_.size_bytes() + lag_scores_.size_bytes() + mean_entropy_.size_bytes() +
           batch_.size_bytes() + steps_.size_bytes() + sequences_.size_bytes() +
           tier_.device_bytes();
  }

  /// The later one of two reports that are whole.
  [[nodiscard]] DeviceReport latest(std::uint32_t index) const {
    DeviceReport best;
    for (std::uint32_t i = 0; i < 2; ++i) {
      DeviceReport const& at = reports_[2 * index + i];
      auto const* const step = static_cast<std::uint32_t const volatile*>(&at.step);
      std::uint32_t const before = *step;
      DeviceReport copy = at;
      if (before != 0 && *step == before && before > best.step) {
        copy.step = before;
        best = copy;
      }
    }
    return best;
  }

  Geometry geometry_;
  typename C::Scorer scorer_;
  DeviceArray<std::int32_t> free_count_;
  DeviceArray<LaneState> lanes_;
  DeviceArray<std::uint32_t> tables_;
  DeviceArray<std::uint8_t> states_;
  DeviceArray<std::uint8_t> plans_;
  DeviceArray<std::uint32_t> leaving_;
  DeviceArray<float> importance_;
  DeviceArray<float> means_;
  DeviceArray<std::uint32_t> pins_;
  DeviceArray<std::uint16_t> changed_;
  DeviceArray<GranuleTimer> timers_;
  DeviceArray<std::uint32_t> alarms_;
  DeviceArray<typename C::Scorer::State> scores_;
  DeviceArray<SavedCounts> saved_;
  DeviceArray<float> ring_;
  DeviceArray<float> previous_;
  DeviceArray<std::uint32_t> lists_;
  DeviceArray<float> moments_;
  DeviceArray<float> lone_scores_;
  DeviceArray<float> lag_scores_;
  DeviceArray<float> mean_entropy_;
  DeviceArray<std::uint32_t> batch_;
  DeviceArray<std::uint32_t> steps_;
  DeviceArray<SequenceState<C>> sequences_;
  PinnedArray<DeviceReport> reports_;
  PinnedArray<std::uint32_t> status_;
  Tier tier_;
  std::vector<SequenceGranules> grown_;  ///< by the step that begins
  StepMemory<C> step_;
  RecallMemory<C> recall_;
  std::size_t page_count_;
  DeviceArray<std::byte> pages_;
  DeviceArray<std::uint32_t> free_list_;
};

/// @throws OutOfMemory with the size of the pool, which is by far the most; CapacityError,
/// CudaError
template <class C>
CacheStorage<C> make_cache_storage(Geometry const& g, typename C::Scorer const& scorer,
                                   std::size_t resident_bytes, TierSettings<C> settings) {
  try {
    return CacheStorage<C>(g, scorer, resident_bytes, std::move(settings));
  } catch (OutOfMemory const& error) {
    std::size_t const pages = pages_of<C>(g);
    std::size_t const bytes = array_bytes(pages, g.page_bytes);
    throw OutOfMemory(
        "KvFreezeCache: " + std::to_string(g.max_sequences) + " sequences of " +
            std::to_string(g.max_tokens) + " tokens need " + std::to_string(pages) + " pages, " +
            std::to_string(bytes) + " bytes of device memory, and some for lists" +
            (resident_bytes == unlimited ? std::string()
                                         : ", but for a cap of " + std::to_string(resident_bytes)) +
            ": " + error.what(),
        resident_bytes == unlimited ? bytes : resident_bytes);
  }
}

}  // namespace kvfreeze::gpu::detail
