#include "run.hpp"

#include "watch.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace llama {

Run::Run(Decoder& decoder, std::unique_ptr<AttentionCache> cache, int prefill_chunk)
    : decoder_(&decoder), cache_(std::move(cache)), prefill_chunk_(prefill_chunk) {}

kvfreeze::StepReport Run::step(int token) { return feed({&token, 1}, StepKind::decode); }

kvfreeze::StepReport Run::step_forced(int token) {
  kvfreeze::StepReport const report = step(token);
  if (report.rewind_to) {
    std::vector<int> const again(tokens_.begin() + *report.rewind_to, tokens_.end());
    rewind(*report.rewind_to);
    feed_chunks(again, StepKind::rewind);
  }
  return report;
}

void Run::rewind(int length) {
  // Logits are not kept, so the last token that stays is computed once more. The cache has thawed
  // everything by now: its logits are the best there are.
  int const stay = std::max(length - 1, 0);
  std::vector<int> const last(tokens_.begin() + stay, tokens_.begin() + length);
  cut(stay);
  feed_chunks(last, StepKind::rewind);
}

void Run::truncate(int length) {
  cut(length);
  accounted_ = length;
}

void Run::restart() {
  cache_->restart();
  tokens_.clear();
  accounted_ = 0;
}

void Run::read(std::span<int const> text, bool keep_common) {
  auto const [end, unused] =
      std::mismatch(tokens_.begin(), tokens_.end(), text.begin(), text.end());
  auto const common = static_cast<int>(end - tokens_.begin());
  // The last token is always fed: its logits are wanted.
  int const kept =
      std::min(common, static_cast<int>(text.size()) - 1) / prefill_chunk_ * prefill_chunk_;
  if (keep_common && kept > 0) {
    truncate(kept);
    prefill(text.subspan(static_cast<std::size_t>(kept)));
  } else {
    restart();
    prefill(text);
  }
}

std::optional<Snapshot> Run::snapshot() {
  std::ostringstream bytes;
  if (!cache_->save(bytes)) {
    return {};
  }
  return Snapshot{std::move(bytes).str(), tokens_, logits_};
}

void Run::restore(Snapshot const& snapshot) {
  std::istringstream bytes(snapshot.cache);
  if (!cache_->restore(bytes)) {
    throw std::logic_error("a cache was saved that cannot be restored");
  }
  tokens_ = snapshot.tokens;
  logits_ = snapshot.logits;
  accounted_ = static_cast<int>(tokens_.size());
}

void Run::cut(int length) {
  cache_->truncate(length);
  tokens_.resize(static_cast<std::size_t>(length));
}

void Run::feed_chunks(std::span<int const> tokens, StepKind kind) {
  while (!tokens.empty()) {
    std::size_t const count = std::min(static_cast<std::size_t>(prefill_chunk_), tokens.size());
    feed(tokens.first(count), kind);
    tokens = tokens.subspan(count);
  }
}

kvfreeze::StepReport Run::feed(std::span<int const> tokens, StepKind kind) {
  Watch const watch;
  double const attended = cache_->attend_seconds();
  double const advanced = cache_->advance_seconds();
  std::span<float const> const logits = decoder_->evaluate(*cache_, tokens);
  logits_.assign(logits.begin(), logits.end());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  bool const show = kind == StepKind::decode && triggers_see_logits_;
  kvfreeze::StepReport const report = cache_->advance(show ? logits : std::span<float const>());
  steps_.push_back({
      .kind = kind,
      .gained = static_cast<int>(tokens_.size()) - accounted_,
      .report = report,
      .seconds = watch.seconds(),
      .attend_seconds = cache_->attend_seconds() - attended,
      .advance_seconds = cache_->advance_seconds() - advanced,
  });
  accounted_ = static_cast<int>(tokens_.size());
  if (report.rewind_to && kind != StepKind::decode) {
    throw std::logic_error("the cache asks for a rewind after a step without logits");
  }
  return report;
}

}  // namespace llama
