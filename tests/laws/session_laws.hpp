#pragma once

/// @file
/// @brief What copies of a sequence have to obey, wherever they are: forked off, or saved and
/// restored.

#include "cache_laws.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace kvfreeze::laws {

/// A sequence in some cache.
template <class Cache>
struct Place {
  Cache* cache = nullptr;
  Sequence sequence;
};

/// Logits that are calm as a rule and in trouble now and then, so that triggers have something to
/// remember.
inline std::vector<float> session_logits(Random& random, std::uint32_t step) {
  std::vector<float> logits(40);
  float const sharpness = step % 17 < 11 ? 9.0F : 0.5F;
  for (float& x : logits) {
    x = sharpness * random.uniform();
  }
  return logits;
}

/// Everything of a report that is about the sequence.
template <class Report>
void require_same_report(Report const& a, Report const& b) {
  REQUIRE(a.step == b.step);
  REQUIRE(a.length == b.length);
  REQUIRE(a.rows == b.rows);
  REQUIRE(a.touched_bytes == b.touched_bytes);
  REQUIRE(a.moved_in_bytes == b.moved_in_bytes);
  REQUIRE(a.moved_out_bytes == b.moved_out_bytes);
  REQUIRE(a.thawed_rows == b.thawed_rows);
  REQUIRE(a.frozen_rows == b.frozen_rows);
  REQUIRE(a.deferred_rows == b.deferred_rows);
  REQUIRE(a.missed_mass == b.missed_mass);
  REQUIRE(a.missed_mass_max == b.missed_mass_max);
  REQUIRE(a.water_level == b.water_level);
  REQUIRE(a.binding == b.binding);
  REQUIRE(a.entropy == b.entropy);
  REQUIRE(a.entropy_change == b.entropy_change);
  REQUIRE(a.recovery == b.recovery);
  REQUIRE(a.rewind_to == b.rewind_to);
}

/// @brief One step of several sequences with the same inputs.
/// @return outputs of each, layer by layer; the last report of each
template <class Cache>
void step_alike(std::vector<Place<Cache>> const& places, kvfreeze_test::InputStream& stream,
                Random& random, int tokens) {
  std::vector<std::vector<float>> first_outputs;
  std::vector<kvfreeze_test::LayerInput> inputs;
  Shape const& shape = places.front().cache->shape();
  for (int layer = 0; layer < shape.layers; ++layer) {
    inputs.push_back(stream.next(tokens));
  }
  auto const logits = session_logits(
      random, static_cast<std::uint32_t>(places.front().cache->length(places.front().sequence)));
  StepReport first;
  for (std::size_t i = 0; i < places.size(); ++i) {
    auto const [cache, sequence] = places[i];
    for (int layer = 0; layer < shape.layers; ++layer) {
      auto& input = inputs[static_cast<std::size_t>(layer)];
      cache->attend(sequence, layer, input.q, input.k, input.v, input.out);
      if (i == 0) {
        first_outputs.push_back(input.out);
      } else {
        CAPTURE(i, layer, tokens);
        REQUIRE((input.out == first_outputs[static_cast<std::size_t>(layer)]));
      }
    }
    StepReport const report = cache->advance(sequence, logits);
    REQUIRE(report.ledger == cache->ledger());
    if (i == 0) {
      first = report;
    } else {
      CAPTURE(i, tokens);
      require_same_report(report, first);
      REQUIRE((kvfreeze_test::all_fidelities(*cache, sequence) ==
               kvfreeze_test::all_fidelities(*places.front().cache, places.front().sequence)));
    }
  }
}

/// What is done to a sequence, stage by stage. After each stage it is copied.
template <class Cache>
std::vector<
    std::function<void(std::vector<Place<Cache>> const&, kvfreeze_test::InputStream&, Random&)>>
session_stages() {
  using Places = std::vector<Place<Cache>>;
  using Stream = kvfreeze_test::InputStream;
  auto const steps = [](int count, int tokens = 1) {
    return [=](Places const& places, Stream& stream, Random& random) {
      for (int i = 0; i < count; ++i) {
        step_alike(places, stream, random, tokens);
      }
    };
  };
  auto const truncate = [](int back) {
    return [=](Places const& places, Stream&, Random&) {
      constexpr int page = Cache::layout_type::page_tokens;
      for (auto const& [cache, sequence] : places) {
        int const length = std::max(cache->length(sequence) - back, 0);
        cache->truncate(sequence, kvfreeze_test::keeps_rows<Cache> ? length : length / page * page);
      }
    };
  };
  auto const pin = [](std::vector<TokenRange> const& ranges) {
    return [=](Places const& places, Stream&, Random&) {
      for (auto const& [cache, sequence] : places) {
        bool const capped = cache->limits().resident_bytes != unlimited;
        cache->pin(sequence, capped ? std::span<TokenRange const>{} : std::span(ranges));
      }
    };
  };
  auto const thaw = [](Places const& places, Stream&, Random&) {
    for (auto const& [cache, sequence] : places) {
      if (cache->limits().resident_bytes == unlimited) {
        cache->thaw(sequence);
      }
    }
  };
  return {[](Places const&, Stream&, Random&) {},
          steps(1),
          steps(1, 61),
          steps(1, 70),
          steps(12),
          steps(25),
          truncate(9),
          pin({{5, 11}, {40, 41}, {140, 160}, {300, 310}}),
          steps(7),
          truncate(40),
          steps(20),
          thaw,
          steps(30),
          pin({}),
          steps(1, 33),
          truncate(1000)};
}

inline Limits session_limits() {
  Limits limits = cache_limits();
  limits.max_tokens = 900;
  return limits;
}

/// The file of a sequence.
template <class Cache>
std::string saved(Cache& cache, Sequence sequence) {
  std::ostringstream out;
  cache.save(sequence, out);
  return out.str();
}

template <class Cache>
Sequence restored(Cache& cache, std::string const& file) {
  std::istringstream in(file);
  Sequence const sequence = cache.restore(in);
  REQUIRE(in.peek() == std::char_traits<char>::eof());
  return sequence;
}

/// @brief At every stage: a restored sequence is what was saved, to the byte; goes on as that does,
/// to the bit; and is the same again after that.
template <class Cache>
void restored_goes_on_as_saved(Settings<Cache> const& settings, Limits const& limits,
                               Shape const& shape = cache_shape) {
  auto cache = make_cache<Cache>(settings, limits, shape);
  Sequence const sequence = cache.open();
  kvfreeze_test::InputStream stream(shape, 51);
  Random random(52);
  int stage = 0;
  for (auto const& work : session_stages<Cache>()) {
    CAPTURE(stage);
    work({{&cache, sequence}}, stream, random);
    auto const ledger = cache.ledger();
    std::string const file = saved(cache, sequence);
    REQUIRE((saved(cache, sequence) == file));
    REQUIRE(cache.ledger() == ledger);
    Limits other_limits = limits;
    bool const capped = limits.resident_bytes != unlimited;
    if (!capped) {  // other places, other sizes
      other_limits.max_sequences = 5;
      other_limits.parts = 1;
      other_limits.max_tokens = limits.max_tokens + 100 + stage;
    }
    auto other = make_cache<Cache>(settings, other_limits, shape);
    Sequence const company = capped ? Sequence{} : other.open();
    Sequence const twin = restored(other, file);
    ledger_is_what_the_system_committed(other);
    REQUIRE((kvfreeze_test::all_fidelities(other, twin) ==
             kvfreeze_test::all_fidelities(cache, sequence)));
    REQUIRE(other.rows(twin) == cache.rows(sequence));
    REQUIRE((saved(other, twin) == file));
    for (int i = 0; i < 9; ++i) {
      step_alike<Cache>({{&cache, sequence}, {&other, twin}}, stream, random, i == 6 ? 19 : 1);
    }
    REQUIRE((saved(other, twin) == saved(cache, sequence)));
    REQUIRE(other.ledger().resident() <= other.limits().resident_bytes);
    other.close(twin);
    if (!capped) {
      other.close(company);
    }
    REQUIRE(other.ledger().tier == 0);
    ledger_is_what_the_system_committed(other);
    stage += 1;
  }
}

/// The same without limits, under a cap, and with a transfer budget beside it.
template <class Cache>
void saved_and_restored(Settings<Cache> const& settings = {}) {
  Limits limits = session_limits();
  restored_goes_on_as_saved<Cache>(settings, limits);
  limits.max_sequences = 1;
  limits.resident_bytes = least_cap<Cache>(settings, limits) + (1U << 14);
  restored_goes_on_as_saved<Cache>(settings, limits);
  limits.transfer_bytes = 1U << 13;
  restored_goes_on_as_saved<Cache>(settings, limits);
}

// --- forks ---------------------------------------------------------------------------------------

/// @brief At every stage: a fork is its parent to the byte; stepped with the same inputs parent,
/// child and grandchild decide what a sequence that was never forked decides; with others none of
/// them hears of it.
template <class Cache>
void forks_go_on_alone(Settings<Cache> const& settings, Limits limits) {
  limits.max_sequences = 4;
  bool const capped = limits.resident_bytes != unlimited;
  auto cache = make_cache<Cache>(settings, limits);
  auto lone_cache = make_cache<Cache>(settings, limits);
  Place<Cache> const parent{&cache, cache.open()};
  Place<Cache> const lone{&lone_cache, lone_cache.open()};
  kvfreeze_test::InputStream stream(cache_shape, 81);
  Random random(82);
  int stage = 0;
  for (auto const& work : session_stages<Cache>()) {
    CAPTURE(stage);
    std::vector<Place<Cache>> alike{parent};
    if (!capped) {  // with a cap company costs bytes
      alike.push_back(lone);
    }
    work(alike, stream, random);
    Place<Cache> const child{&cache, cache.fork(parent.sequence)};
    std::string const file = saved(cache, parent.sequence);
    REQUIRE((saved(cache, child.sequence) == file));
    if (!capped) {
      REQUIRE((saved(lone_cache, lone.sequence) == file));
    }
    Place<Cache> const grandchild{&cache, cache.fork(child.sequence)};
    ledger_is_what_the_system_committed(cache);
    REQUIRE(cache.ledger().resident() <= cache.limits().resident_bytes);
    // The grandchild goes elsewhere, behind and before a cut of the fork's own.
    kvfreeze_test::InputStream other(cache_shape, 83);
    std::string const before = saved(cache, child.sequence);
    step_alike<Cache>({grandchild}, other, random, 1);
    cache.truncate(grandchild.sequence, cache.length(grandchild.sequence) / 32 * 16);
    step_alike<Cache>({grandchild}, other, random, 40);
    for (int i = 0; i < 5; ++i) {
      step_alike<Cache>({grandchild}, other, random, 1);
    }
    REQUIRE((saved(cache, child.sequence) == before));
    alike.push_back(child);
    for (int i = 0; i < 5; ++i) {
      step_alike(alike, stream, random, i == 3 ? 17 : 1);
    }
    std::string const after = saved(cache, child.sequence);
    REQUIRE((saved(cache, parent.sequence) == after));
    cache.close(stage % 2 == 0 ? child.sequence : grandchild.sequence);
    cache.close(stage % 2 == 0 ? grandchild.sequence : child.sequence);
    ledger_is_what_the_system_committed(cache);
    stage += 1;
  }
  cache.close(parent.sequence);
  ledger_is_what_the_system_committed(cache);
  REQUIRE(cache.ledger().tier == 0);
}

/// @brief Rows of forks are rows of the parent, bit for bit, whatever becomes of it: truncated
/// below the fork and given others, or closed; and the other way round.
template <class Cache>
void forks_keep_their_rows(Settings<Cache> const& settings) {
  Limits limits = session_limits();
  limits.max_sequences = 5;
  using Checked = kvfreeze_test::CheckedSequence<Cache>;
  constexpr int page = Cache::layout_type::page_tokens;
  for (bool const parent_goes : {false, true}) {
    CAPTURE(parent_goes);
    auto cache = make_cache<Cache>(settings, limits);
    Checked parent(cache, 84);
    parent.attend(140);
    for (int i = 0; i < 20; ++i) {
      parent.attend(1);
    }
    Checked child(parent, cache, cache.fork(parent.handle()));
    Checked second(parent, cache, cache.fork(parent.handle()));
    Checked grandchild(child, cache, cache.fork(child.handle()));
    Checked* const all[] = {&parent, &child, &second, &grandchild};
    for (Checked* const one : all) {
      one->check();
      one->check_protected();
    }
    Checked& goes = parent_goes ? parent : child;
    Checked& stays = parent_goes ? child : parent;
    goes.truncate(kvfreeze_test::keeps_rows<Cache> ? 37 : 48 / page * page);
    goes.diverge(85);
    second.diverge(86);
    goes.attend(90);
    for (int i = 0; i < 20; ++i) {
      for (Checked* const one : all) {
        one->attend(1);
      }
    }
    goes.close();
    second.attend(1);
    stays.attend(25);
    Checked late(stays, cache, cache.fork(stays.handle()));
    if (kvfreeze_test::keeps_rows<Cache>) {
      grandchild.thaw_and_compare(1);
      stays.thaw_and_compare(1);
      second.thaw_and_compare(9);
      late.thaw_and_compare(1);
    }
    grandchild.close();
    late.attend(1);
    stays.close();
    late.attend(1);
    second.attend(1);
    second.close();
    late.close();
    ledger_is_what_the_system_committed(cache);
    REQUIRE(cache.ledger().tier == 0);
  }
}

/// Whichever call of the tier fails: there is no child, the parent is what it was.
template <class Cache>
void a_failed_fork_changes_nothing(Settings<Cache> const& settings) {
  auto cache = make_cache<Cache>(settings, session_limits());
  kvfreeze_test::InputStream stream(cache_shape, 87);
  Random random(88);
  Place<Cache> const parent{&cache, cache.open()};
  step_alike<Cache>({parent}, stream, random, 200);
  for (int i = 0; i < 40; ++i) {
    step_alike<Cache>({parent}, stream, random, 1);
  }
  std::string const file = saved(cache, parent.sequence);
  auto const ledger = cache.ledger();
  for (int n = 1;; ++n) {
    CAPTURE(n);
    cache.tier().arm({.call = static_cast<std::uint64_t>(n)});
    try {
      Place<Cache> const child{&cache, cache.fork(parent.sequence)};
      cache.tier().disarm();
      REQUIRE(n > 1);
      REQUIRE((saved(cache, child.sequence) == file));
      step_alike<Cache>({parent, child}, stream, random, 1);
      return;
    } catch (TierError const&) {
      cache.tier().disarm();
    }
    REQUIRE(cache.ledger() == ledger);
    REQUIRE((saved(cache, parent.sequence) == file));
  }
}

/// A cap that holds one of them but not two says what two need.
template <class Cache>
void a_cap_refuses_forks(Settings<Cache> const& settings) {
  Limits limits = session_limits();
  std::size_t const least = least_cap<Cache>(settings, limits);
  limits.resident_bytes = least + 8192;
  auto cache = make_cache<Cache>(settings, limits);
  kvfreeze_test::InputStream stream(cache_shape, 89);
  Random random(90);
  Place<Cache> const parent{&cache, cache.open()};
  step_alike<Cache>({parent}, stream, random, 850);
  std::string const file = saved(cache, parent.sequence);
  std::size_t needed = 0;
  try {
    static_cast<void>(cache.fork(parent.sequence));
    FAIL("accepted");
  } catch (CapacityError const& error) {
    REQUIRE(error.available() == limits.resident_bytes);
    needed = error.needed();
    REQUIRE(needed > limits.resident_bytes);
  }
  REQUIRE((saved(cache, parent.sequence) == file));
  cache.limit(needed);
  Place<Cache> const child{&cache, cache.fork(parent.sequence)};
  REQUIRE(cache.ledger().resident() <= needed);
  for (int i = 0; i < 10; ++i) {
    step_alike<Cache>({parent, child}, stream, random, 1);
    REQUIRE(cache.ledger().resident() <= needed);
  }
  REQUIRE_THROWS_AS(cache.fork(parent.sequence), CapacityError);  // max_sequences
}

/// Steps of forked and restored sequences allocate as little as others.
template <class Cache>
void copies_do_not_allocate(Settings<Cache> const& settings) {
  Limits limits = session_limits();
  limits.max_sequences = 3;
  auto cache = make_cache<Cache>(settings, limits);
  kvfreeze_test::InputStream stream(cache_shape, 91);
  Random random(92);
  Sequence const parent = cache.open();
  step_alike<Cache>({{&cache, parent}}, stream, random, 150);
  Sequence const child = cache.fork(parent);
  Sequence const twin = restored(cache, saved(cache, parent));
  std::vector<kvfreeze_test::LayerInput> inputs;
  for (int i = 0; i < 120; ++i) {
    inputs.push_back(stream.next(1));
  }
  auto const before = kvfreeze_test::allocations();
  for (Sequence const sequence : {twin, child, parent}) {
    for (std::size_t i = 0; i + 1 < inputs.size(); i += 2) {
      for (std::size_t layer = 0; layer < 2; ++layer) {
        auto& input = inputs[i + layer];
        cache.attend(sequence, static_cast<int>(layer), input.q, input.k, input.v, input.out);
      }
      static_cast<void>(cache.advance(sequence));
    }
  }
  auto const after = kvfreeze_test::allocations();
  CHECK(after.calls == before.calls);
}

/// The laws of forks.
template <class Cache>
void forks(Settings<Cache> const& settings = {}) {
  Limits limits = session_limits();
  forks_go_on_alone<Cache>(settings, limits);
  limits.transfer_bytes = 1U << 13;
  forks_go_on_alone<Cache>(settings, limits);
  forks_keep_their_rows<Cache>(settings);
  copies_do_not_allocate<Cache>(settings);
  if (detail::tier_kind<typename Cache::tier_type>() != TierKind::in_place) {
    limits = session_limits();
    limits.max_sequences = 4;
    std::size_t const least = least_cap<Cache>(settings, limits);
    limits.resident_bytes = 4 * least + (1U << 16);
    forks_go_on_alone<Cache>(settings, limits);
    a_cap_refuses_forks<Cache>(settings);
  }
}

// --- damage --------------------------------------------------------------------------------------

/// @brief A tier that looks at the cache whenever rows come to it.
template <TierPolicy Tier>
class Watched {
 public:
  static constexpr TierKind kind = detail::tier_kind<Tier>();

  std::function<void()> look;

  void attach(TierGeometry const& geometry) { detail::attach_tier(tier_, geometry); }

  void store(std::span<StoreRequest const> batch) {
    if (look) {
      look();
    }
    tier_.store(batch);
  }

  void load(std::span<LoadRequest const> batch) { tier_.load(batch); }

  void erase(TierKey first, std::uint32_t count) noexcept { tier_.erase(first, count); }

  [[nodiscard]] std::size_t bytes() const noexcept { return tier_.bytes(); }

 private:
  Tier tier_;
};

/// A file of a small sequence with rows everywhere.
template <class Cache>
std::string small_file(Cache& cache, Sequence sequence, kvfreeze_test::InputStream& stream,
                       int steps) {
  Random random(61);
  step_alike<Cache>({{&cache, sequence}}, stream, random, 66);
  for (int i = 0; i < steps; ++i) {
    step_alike<Cache>({{&cache, sequence}}, stream, random, 1);
  }
  return saved(cache, sequence);
}

/// @brief Cut at every length and with every byte changed a file is refused; nothing is left of the
/// attempt, and other sequences go on.
template <class Cache>
void damage_is_found(Settings<Cache> const& settings, int steps) {
  Shape const shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 8};
  Limits limits = session_limits();
  limits.max_sequences = 2;
  auto cache = make_cache<Cache>(settings, limits, shape);
  kvfreeze_test::InputStream stream(shape, 62);
  Sequence const sequence = cache.open();
  std::string const file = small_file(cache, sequence, stream, steps);
  auto const counts = cache.rows(sequence);
  REQUIRE((counts.exact < counts.total() ||
           std::is_same_v<typename Cache::scheduler_type, KeepAllScheduler>));
  cache.close(restored(cache, file));
  auto const ledger = cache.ledger();
  auto const refused = [&](std::string const& bytes) {
    std::istringstream in(bytes);
    try {
      static_cast<void>(cache.restore(in));
    } catch (FormatError const& error) {
      return std::string(error.what()).find("restore()") == 0 && cache.ledger() == ledger;
    }
    return false;
  };
  std::size_t accepted = 0;
  for (std::size_t length = 0; length < file.size(); ++length) {
    accepted += refused(file.substr(0, length)) ? 0 : 1;
  }
  REQUIRE(accepted == 0);
  Random random(63);
  std::string damaged = file;
  for (char& byte : damaged) {
    char const whole = byte;
    byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1U + random.below(255)));
    accepted += refused(damaged) ? 0 : 1;
    byte = whole;
  }
  REQUIRE(accepted == 0);
  REQUIRE((saved(cache, sequence) == file));
  Sequence const twin = restored(cache, file);
  for (int i = 0; i < 5; ++i) {
    step_alike<Cache>({{&cache, sequence}, {&cache, twin}}, stream, random, 1);
  }
}

/// Does `cache` refuse the file, and does it say both values?
template <class Cache>
void refuses(Cache& cache, std::string const& file, std::string const& theirs,
             std::string const& ours) {
  auto const ledger = cache.ledger();
  std::istringstream in(file);
  try {
    static_cast<void>(cache.restore(in));
    FAIL("accepted");
  } catch (FormatError const& error) {
    std::string const what = error.what();
    CAPTURE(what, theirs, ours);
    REQUIRE(what.find(" is " + theirs) != std::string::npos);
    REQUIRE(what.find(", " + ours + " in this cache") != std::string::npos);
  }
  REQUIRE(cache.ledger() == ledger);
}

/// Whichever store fails: no sequence was added, and the call can be repeated.
template <class Cache>
void restore_survives_every_fault(Settings<Cache> const& settings) {
  auto cache = make_cache<Cache>(settings, session_limits());
  kvfreeze_test::InputStream stream(cache_shape, 64);
  Sequence const sequence = cache.open();
  std::string const file = small_file(cache, sequence, stream, 60);
  auto const ledger = cache.ledger();
  Random random(65);
  for (int n = 1;; ++n) {
    CAPTURE(n);
    cache.tier().arm({.call = static_cast<std::uint64_t>(n)});
    std::istringstream in(file);
    try {
      Sequence const twin = cache.restore(in);
      cache.tier().disarm();
      REQUIRE(n > 5);
      step_alike<Cache>({{&cache, sequence}, {&cache, twin}}, stream, random, 1);
      break;
    } catch (TierError const&) {
      cache.tier().disarm();
    }
    REQUIRE(cache.ledger() == ledger);
  }
}

/// @brief A sequence that was saved without a cap comes back under any cap: the cap holds whenever
/// the tier looks, nothing is lost, and the sequence can go on.
template <class Cache>
void restored_under_a_cap(Settings<Cache> const& settings) {
  Limits limits = session_limits();
  auto cache = make_cache<Cache>(settings, limits);
  kvfreeze_test::CheckedSequence<Cache> original(cache, 66);
  original.attend(200);
  for (int i = 0; i < 10; ++i) {
    original.attend(1);
  }
  std::string const file = saved(cache, original.handle());
  std::size_t const full = cache.ledger().resident();
  std::size_t const least = least_cap<Cache>(settings, limits);
  int looks = 0;
  for (std::size_t const cap :
       {least, least + (1U << 12), least + (1U << 15), std::max(full, least) + (1U << 16)}) {
    CAPTURE(cap, full, least);
    limits.resident_bytes = cap;
    auto other = make_cache<Cache>(settings, limits);
    other.tier().look = [&] {
      looks += 1;
      REQUIRE(other.ledger().resident() <= cap);
    };
    kvfreeze_test::CheckedSequence<Cache> twin(original, other, restored(other, file));
    REQUIRE(other.ledger().resident() <= cap);
    ledger_is_what_the_system_committed(other);
    twin.check();
    twin.check_protected();
    for (int i = 0; i < 10; ++i) {
      twin.attend(i == 7 ? 30 : 1);
    }
    other.limit(unlimited);
    twin.attend(1);
    if (kvfreeze_test::keeps_rows<Cache>) {
      twin.thaw_and_compare(1);
    }
    other.tier().look = {};
  }
  REQUIRE((looks > 0 || detail::tier_kind<typename Cache::tier_type>() != TierKind::holding));
}

/// Who gives way to a cap at restore() gives way to it at limit().
template <class Cache>
void restore_and_limit_choose_alike(Settings<Cache> const& settings, std::size_t more) {
  Limits limits = session_limits();
  std::size_t const least = least_cap<Cache>(settings, limits);
  auto cache = make_cache<Cache>(settings, limits);
  kvfreeze_test::InputStream stream(cache_shape, 67);
  Sequence const sequence = cache.open();
  Random random(68);
  step_alike<Cache>({{&cache, sequence}}, stream, random, 600);
  step_alike<Cache>({{&cache, sequence}}, stream, random, 1);
  std::string const file = saved(cache, sequence);
  cache.limit(least + more);
  limits.resident_bytes = least + more;
  auto other = make_cache<Cache>(settings, limits);
  Sequence const twin = restored(other, file);
  auto const fidelities = kvfreeze_test::all_fidelities(other, twin);
  REQUIRE((fidelities == kvfreeze_test::all_fidelities(cache, sequence)));
  REQUIRE(std::count(fidelities.begin(), fidelities.end(), Fidelity::exact) <
          std::ssize(fidelities));
}

}  // namespace kvfreeze::laws
