#include "generation.hpp"

#include "watch.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace llama {

namespace {

constexpr std::size_t penalty_window = 256;  // recent tokens that the repeat penalty holds for

}  // namespace

Generation::Generation(GenerationOptions options, std::vector<int> prompt, Run run,
                       std::optional<Run> plain)
    : options_(std::move(options)),
      prompt_(std::move(prompt)),
      sampler_(options_.sampler, options_.seed,
               options_.stop_at_end ? std::vector<int>() : options_.ends),
      run_(std::move(run)),
      plain_(std::move(plain)) {
  if (options_.max_rewalks == 0) {
    run_.quieten_triggers();
  }
}

void Generation::read_prompt() {
  Watch const watch;
  run_.prefill(prompt_);
  seconds_to_first_token_ = watch.seconds();
  if (plain_) {
    plain_->prefill(prompt_);
  }
}

void Generation::run(std::function<void(Event const&)> const& show) {
  while (static_cast<int>(places_.size()) < options_.tokens) {
    int const token = sample();
    if (std::find(options_.ends.begin(), options_.ends.end(), token) != options_.ends.end()) {
      places_.pop_back();
      break;
    }
    kvfreeze::StepReport const report = run_.step(token);
    if (plain_) {
      plain_->step(token);
    }
    decode_seconds_ += run_.steps().back().seconds;
    int const count = static_cast<int>(places_.size());
    int const taken_back = report.rewind_to ? go_back(*report.rewind_to) : 0;
    show({token, report, count, count / decode_seconds_, taken_back});
  }
}

Quality Generation::quality() const {
  std::vector<Prediction> predictions;
  for (Place const& place : places_) {
    predictions.push_back(place.prediction);
  }
  return summarise(predictions);
}

int Generation::sample() {
  bool const cool = static_cast<int>(run_.tokens().size()) < cool_until_;
  sampler_.set_temperature(cool ? rewalk_temperature() : options_.sampler.temperature);
  Place place{.before = sampler_.state(), .prediction = {}};
  std::span<int const> const text = run_.tokens();
  int const token =
      sampler_.sample(run_.logits(), text.last(std::min(text.size(), penalty_window)));
  if (plain_) {
    place.prediction = compare_logits(plain_->logits(), run_.logits(), token);
  }
  places_.push_back(place);
  return token;
}

double Generation::rewalk_temperature() const {
  return options_.rewalk_temperature.value_or(0.5 * options_.sampler.temperature);
}

/// Rewalk Regeneration. @return generated tokens that were taken back
int Generation::go_back(int length) {
  int const prompt = static_cast<int>(prompt_.size());
  int const until = static_cast<int>(run_.tokens().size());
  int const keep = std::max(length - prompt, 0);
  int const dropped = static_cast<int>(places_.size()) - keep;
  if (++rewalks_ >= options_.max_rewalks) {
    run_.quieten_triggers();
  }
  rewind(run_, length);
  if (plain_) {
    rewind(*plain_, length);
  }
  if (dropped > 0) {
    sampler_.restore(places_[static_cast<std::size_t>(keep)].before);
    places_.resize(static_cast<std::size_t>(keep));
  }
  cool_until_ = std::max(cool_until_, until);
  return dropped;
}

void Generation::rewind(Run& run, int length) {
  run.rewind(length);
  if (static_cast<std::size_t>(length) < prompt_.size()) {  // the prompt is not up for debate
    run.prefill(std::span(prompt_).subspan(static_cast<std::size_t>(length)));
  }
}

}  // namespace llama
