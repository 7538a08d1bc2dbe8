#include <kvfreeze/scheduler/entropy_calibration.hpp>
#include <kvfreeze/scheduler/lane_table.hpp>
#include <kvfreeze/scheduler/oq_score.hpp>

#include "../recording.hpp"
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

constexpr int oq_queries = 32;  ///< last ones of a piece

/// Softmax weights of a query head's last queries over the keys before the first of them.
/// @return [oq_queries][rows - oq_queries]
std::vector<float> last_weights(Recording const& r, int layer, int query_head) {
  auto const dim = static_cast<std::size_t>(r.shape.head_dim);
  int const lane = layer * r.shape.kv_heads + query_head / (r.shape.query_heads / r.shape.kv_heads);
  int const keys = r.rows - oq_queries;
  double const scale = 1.0 / std::sqrt(static_cast<double>(dim));
  std::vector<float> result;
  std::vector<double> logits;
  for (int i = 0; i < oq_queries; ++i) {
    auto const q = r.query(i, layer).subspan(static_cast<std::size_t>(query_head) * dim, dim);
    logits.clear();
    for (int row = 0; row <= keys + i; ++row) {
      auto const k = r.key(lane, row);
      double dot = 0.0;
      for (std::size_t d = 0; d < dim; ++d) {
        dot += static_cast<double>(q[d]) * static_cast<double>(kvfreeze::to_float(k[d]));
      }
      logits.push_back(dot * scale);
    }
    double const highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (double& logit : logits) {
      logit = std::exp(logit - highest);
      sum += logit;
    }
    for (int row = 0; row < keys; ++row) {
      result.push_back(static_cast<float>(logits[static_cast<std::size_t>(row)] / sum));
    }
  }
  return result;
}

kvfreeze::LaneTable measure_oq(Engine& engine, CalibrateOptions const& o,
                               std::vector<std::vector<int>> const& pieces, Progress& progress) {
  Choice const plain = find_preset("Plain");
  CacheSettings const settings = engine.settings(plain);
  kvfreeze::Shape const& shape = settings.shape;
  std::vector<kvfreeze::OqScore> scores(static_cast<std::size_t>(shape.layers));
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    auto cache = std::make_unique<RecordingCache>(plain.preset->make(settings), shape,
                                                  o.common.context, oq_queries, 0);
    Recording const& recorded = cache->recording();
    Run run = engine.make_run(std::move(cache));
    run.prefill(pieces[i]);
    for (int layer = 0; layer < shape.layers; ++layer) {
      for (int head = 0; head < shape.query_heads; ++head) {
        scores[static_cast<std::size_t>(layer)].add(last_weights(recorded, layer, head),
                                                    oq_queries);
      }
      progress.show((static_cast<double>(i) + (layer + 1.0) / shape.layers) /
                    static_cast<double>(pieces.size()));
    }
  }
  kvfreeze::LaneTable table{"shares", shape, {}};
  for (float const ratio : kvfreeze::OqScore::ratios(scores)) {
    table.values.insert(table.values.end(), static_cast<std::size_t>(shape.kv_heads), ratio);
  }
  return table;
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
  if (o.common.context < 4 * oq_queries) {
    throw UserError("--context " + std::to_string(o.common.context) + " is less than " +
                    std::to_string(4 * oq_queries));
  }
  check_writable(o.out);
  Engine engine(o.common);
  auto const pieces = read_pieces(engine, o.text, o.offset, o.common.context, o.chunks);
  Progress progress("calibrate");
  std::ostringstream text;
  std::string found;
  if (oq) {
    kvfreeze::LaneTable const table = measure_oq(engine, o, pieces, progress);
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
