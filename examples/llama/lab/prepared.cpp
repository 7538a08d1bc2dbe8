#include "prepared.hpp"

#include <algorithm>
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
