#include <kvfreeze/scheduler/entropy_calibration.hpp>

#include "../scoring.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <cstdio>
#include <span>
#include <sstream>
#include <vector>

namespace llama {

void calibrate(CalibrateOptions const& o) {
  Preset const& preset = find_preset("EntropyOnline");
  check_writable(o.out);
  Engine engine(o.common);
  auto const pieces = read_pieces(engine, o.text, o.offset, o.common.context, o.chunks);
  CacheSettings settings = engine.settings(preset);
  settings.limits.resident_bytes = kvfreeze::unlimited;
  Run run = engine.make_run(preset.make(settings));
  kvfreeze::EntropyCalibration result{settings.shape, {}};
  std::vector<double> sums(static_cast<std::size_t>(settings.shape.layers) *
                           static_cast<std::size_t>(settings.shape.kv_heads));
  int looks = 0;
  Progress progress("calibrate");
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    run.restart();
    // Looked at four times, as published: the entropy grows with the context.
    std::size_t const part = pieces[i].size() / 4;
    for (std::size_t quarter = 0; quarter < 4; ++quarter) {
      run.prefill(std::span(pieces[i]).subspan(quarter * part, part));
      std::size_t lane = 0;
      for (int layer = 0; layer < settings.shape.layers; ++layer) {
        for (int head = 0; head < settings.shape.kv_heads; ++head) {
          sums[lane++] += static_cast<double>(run.cache().attention_entropy(layer, head));
        }
      }
      looks += 1;
      progress.show(static_cast<double>(4 * i + quarter + 1) /
                    static_cast<double>(4 * pieces.size()));
    }
  }
  progress.finish();
  for (double const sum : sums) {
    result.bits.push_back(static_cast<float>(sum / looks));
  }
  std::ostringstream text;
  result.save(text);
  write_text_file(o.out, text.str());
  std::printf(
      "entropies of %zu heads over %d x %d tokens of %s in %s; they differ by %s of their "
      "mean%s\n",
      result.bits.size(), o.chunks, o.common.context, o.text.c_str(), o.out.c_str(),
      format_percent(result.variation()).c_str(),
      result.variation() < 0.25 ? ", too little for budgets by them to gain" : "");
}

}  // namespace llama
