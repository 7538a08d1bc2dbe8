#include "prepared.hpp"

#include "../oq_measurement.hpp"
#include "../user_error.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace llama::lab {

Prepared::Prepared(Engine& engine, Choice choice, std::span<int const> prompt,
                   std::function<void()> tick)
    : engine_(engine), choice_(std::move(choice)), prompt_(prompt), tick_(std::move(tick)) {}

Run& Prepared::under(std::size_t cap) {
  if (cap != kvfreeze::unlimited) {
    // Says what is too little before the long work; only address space is reserved.
    static_cast<void>(engine_.make_run(capped(cap)));
  }
  if (can_limit_) {
    begin();
    give_shares();
    if (cap == kvfreeze::unlimited) {
      protocol_ = "none";
      return *run_;
    }
    if (run_->cache().limit(cap)) {
      protocol_ = "after the prompt";
      return *run_;
    }
    can_limit_ = false;
    snapshot_.reset();
  }
  make_cache(cap == kvfreeze::unlimited ? choice_ : capped(cap));
  read_prompt();
  give_shares();
  protocol_ = cap == kvfreeze::unlimited ? "none" : "from the start";
  return *run_;
}

Choice Prepared::capped(std::size_t cap) const {
  Choice choice = choice_;
  choice.resident_bytes = cap;
  return choice;
}

void Prepared::make_cache(Choice const& choice) {
  run_.reset();  // two caches at a time need twice the memory
  run_ = engine_.make_run(choice);
}

void Prepared::read_prompt() {
  auto const chunk = static_cast<std::size_t>(run_->prefill_chunk());
  for (std::size_t at = 0; at < prompt_.size(); at += chunk) {
    tick_();
    run_->prefill(prompt_.subspan(at, std::min(chunk, prompt_.size() - at)));
  }
}

void Prepared::give_shares() {
  if (choice_.calibration != measured_on_prompt) {
    return;
  }
  if (shares_.empty()) {
    if (prompt_.size() < OqMeasurement::least_tokens) {
      throw UserError("--presets: '" + choice_.label + "' measures prompts of at least " +
                      std::to_string(OqMeasurement::least_tokens) + " tokens, this one has " +
                      std::to_string(prompt_.size()));
    }
    OqMeasurement measurement(engine_);
    measurement.add({prompt_.begin(), prompt_.end()}, [&](double) { tick_(); });
    shares_ = measurement.shares();
  }
  if (!run_->cache().set_shares(shares_)) {
    throw UserError("--presets: '" + choice_.label + "' has no shares that a prompt could give");
  }
}

/// To the end of the prompt, without a cap, in a new cache: work space that earlier work committed
/// would count.
void Prepared::begin() {
  make_cache(choice_);
  if (!snapshot_) {
    read_prompt();
    snapshot_ = run_->snapshot();
    if (!snapshot_) {
      return;
    }
    make_cache(choice_);
  }
  run_->restore(*snapshot_);
}

}  // namespace llama::lab
