#include <kvfreeze/scheduler/entropy_calibration.hpp>
#include <kvfreeze/scheduler/lane_table.hpp>

#include "../oq_measurement.hpp"
#include "../scoring.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace llama {

namespace {

kvfreeze::LaneTable measure_oq(Engine& engine, std::vector<std::vector<int>> const& pieces,
                               Progress& progress) {
  kvfreeze::Shape const shape = engine.settings(find_preset("Plain")).shape;
  OqMeasurement measurement(engine);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    measurement.add(pieces[i], [&](double part) {
      progress.show((static_cast<double>(i) + part) / static_cast<double>(pieces.size()));
    });
  }
  return {"shares", shape, measurement.shares()};
}

/// Looked at four times in each piece, as published: entropy grows with the context.
kvfreeze::EntropyCalibration measure_entropies(Engine& engine,
                                               std::vector<std::vector<int>> const& pieces,
                                               Progress& progress) {
  Preset const& preset = find_preset("EntropyOnline");
  CacheSettings settings = engine.settings(preset);
  settings.limits.resident_bytes = kvfreeze::unlimited;
  Run run = engine.make_run(preset.make(settings));
  kvfreeze::EntropyCalibration result{settings.shape, {}};
  std::vector<double> sums(static_cast<std::size_t>(settings.shape.layers) *
                           static_cast<std::size_t>(settings.shape.kv_heads));
  int looks = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    run.restart();
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
  for (double const sum : sums) {
    result.bits.push_back(static_cast<float>(sum / looks));
  }
  return result;
}

}  // namespace

void calibrate(CalibrateOptions const& o) {
  bool const oq = o.measure == "oq";
  if (!oq) {
    static_cast<void>(find_preset("EntropyOnline"));  // before the long work
  }
  if (o.common.context < OqMeasurement::least_tokens) {
    throw UserError("--context " + std::to_string(o.common.context) + " is less than " +
                    std::to_string(OqMeasurement::least_tokens));
  }
  check_writable(o.out);
  Engine engine(o.common);
  auto const pieces = read_pieces(engine, o.text, o.offset, o.common.context, o.chunks);
  Progress progress("calibrate");
  std::ostringstream text;
  std::string found;
  if (oq) {
    kvfreeze::LaneTable const table = measure_oq(engine, pieces, progress);
    table.save(text);
    auto const [least, most] = std::minmax_element(table.values.begin(), table.values.end());
    found =
        "OQ ratios of the layers, " + format_number(*least, 2) + " to " + format_number(*most, 2);
  } else {
    kvfreeze::EntropyCalibration const result = measure_entropies(engine, pieces, progress);
    result.save(text);
    found = "entropies of " + std::to_string(result.bits.size()) + " heads; they differ by " +
            format_percent(result.variation()) + " of their mean" +
            (result.variation() < 0.25 ? ", too little for budgets by them to gain" : "");
  }
  progress.finish();
  write_text_file(o.out, text.str());
  std::printf("%s: over %d x %d tokens of %s, in %s\n", found.c_str(), o.chunks, o.common.context,
              o.text.c_str(), o.out.c_str());
}

}  // namespace llama
