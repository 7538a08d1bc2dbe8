#include "../recording.hpp"
#include "../scoring.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace llama {

void record(RecordOptions const& options) {
  RecordOptions o = options;
  if (o.steps) {
    o.queries = o.rows;
  }
  if (o.queries > o.rows) {
    throw UserError("--queries " + std::to_string(o.queries) + " are more than --rows " +
                    std::to_string(o.rows));
  }
  o.common.context = o.rows;
  check_writable(o.out);
  Engine engine(o.common);
  auto const rows = static_cast<std::size_t>(o.rows);
  std::vector<int> const tokens = read_pieces(engine, o.text, o.offset, o.rows, 1).front();

  Choice const plain = find_preset("Plain");
  CacheSettings const settings = engine.settings(plain);
  auto cache =
      std::make_unique<RecordingCache>(plain.preset->make(settings), settings.shape, o.rows,
                                       o.queries, o.steps ? engine.shape().vocabulary : 0);
  RecordingCache const& recorded = *cache;
  Run run = engine.make_run(std::move(cache));
  Progress progress("record");
  auto const chunk = static_cast<std::size_t>(o.steps ? 1 : run.prefill_chunk());
  for (std::size_t at = 0; at < rows; at += chunk) {
    if (o.steps) {
      run.step(tokens[at]);
    } else {
      run.prefill(std::span(tokens).subspan(at, std::min(chunk, rows - at)));
    }
    progress.show(static_cast<double>(at) / static_cast<double>(rows));
  }
  progress.finish();
  write_recording(recorded.recording(), o.out);
  std::printf("%d rows, %d queries of %d layers%s in %s\n", o.rows, o.queries,
              engine.shape().layers, o.steps ? " and all logits" : "", o.out.c_str());
}

}  // namespace llama
