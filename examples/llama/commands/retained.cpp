#include "../scoring.hpp"
#include "../text.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

namespace llama {

namespace {

/// Positions of a lane's exact rows, in rising order.
std::vector<int> exact_rows(AttentionCache const& cache, int layer, int lane) {
  std::vector<kvfreeze::Fidelity> fidelities(static_cast<std::size_t>(cache.length()));
  cache.fidelities(layer, lane, fidelities);
  std::vector<int> rows;
  for (int row = 0; row < cache.length(); ++row) {
    if (fidelities[static_cast<std::size_t>(row)] == kvfreeze::Fidelity::exact) {
      rows.push_back(row);
    }
  }
  return rows;
}

std::vector<std::string> table_row(Choice const& choice,
                                   std::vector<std::vector<int>> const& lanes) {
  std::vector<std::size_t> counts;
  std::transform(lanes.begin(), lanes.end(), std::back_inserter(counts),
                 [](std::vector<int> const& rows) { return rows.size(); });
  auto const [least, most] = std::minmax_element(counts.begin(), counts.end());
  double const sum = std::accumulate(counts.begin(), counts.end(), 0.0);
  return {choice.label, std::to_string(counts.size()), std::to_string(*least),
          format_number(sum / static_cast<double>(counts.size()), 1), std::to_string(*most)};
}

}  // namespace

void retained(RetainedOptions const& options) {
  RetainedOptions o = options;
  o.common.context = o.tokens;
  o.common.prefill_chunk = o.tokens;  // the whole prompt is one step, as the rules' papers have it
  std::vector<Choice> const choices = find_choices(o.common.preset);
  check_writable(o.out);
  Engine engine(o.common);
  std::vector<int> const tokens = read_pieces(engine, o.text, o.offset, o.tokens, 1).front();
  std::vector<Json> all;
  std::vector<std::vector<std::string>> table{{"cache", "lanes", "least", "mean", "most"}};
  for (Choice const& choice : choices) {
    Run run = engine.make_run(choice);
    run.prefill(tokens);
    AttentionCache const& cache = run.cache();
    std::vector<std::vector<int>> lanes;
    for (int layer = 0; layer < engine.shape().layers; ++layer) {
      for (int lane = 0; lane < cache.lanes_per_layer(); ++lane) {
        lanes.push_back(exact_rows(cache, layer, lane));
      }
    }
    table.push_back(table_row(choice, lanes));
    Json& json = all.emplace_back();
    json.put("command", "retained");
    engine.put_settings(json, choice);
    json.put("text", o.text);
    json.put("offset_bytes", o.offset);
    json.put("lanes_per_layer", cache.lanes_per_layer());
    json.put("token_ids", tokens);
    json.put("exact_rows", lanes);
    if (o.logits) {
      for (float const logit : run.logits()) {
        json.append("logits", static_cast<double>(logit));
      }
    }
  }
  write_text_file(o.out, json_text(all));
  std::printf("exact rows after a prompt of %d tokens of %s, by lane; in %s\n\n", o.tokens,
              o.text.c_str(), o.out.c_str());
  print_table(table);
}

}  // namespace llama
