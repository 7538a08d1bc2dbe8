#include <kvfreeze/version.hpp>

#include "../lab/estimate.hpp"
#include "../lab/grid.hpp"
#include "../lab/measure.hpp"
#include "../lab/report.hpp"
#include "../lab/results.hpp"
#include "../lab/subjects.hpp"
#include "../model.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "../watch.hpp"
#include "commands.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <unistd.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace llama {

namespace {

using namespace lab;

std::atomic<bool> interrupted = false;

extern "C" void note_interrupt(int /*signal*/) {
  interrupted = true;
  std::signal(SIGINT, SIG_DFL);  // who asks twice does not want to wait
}

/// Thrown where work is to end because the user said so.
struct Interrupted {};

void check_interrupt() {
  if (interrupted) {
    throw Interrupted{};
  }
}

std::string machine_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    std::size_t const colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

std::string version_text() {
  return std::to_string(KVFREEZE_VERSION_MAJOR) + "." + std::to_string(KVFREEZE_VERSION_MINOR) +
         "." + std::to_string(KVFREEZE_VERSION_PATCH);
}

/// `examples/run.sh` knows the commit that it builds.
std::string commit_text() {
  char const* const commit = std::getenv("KVFREEZE_COMMIT");
  return commit != nullptr && *commit != '\0' ? commit : "unknown";
}

Circumstances circumstances_of(CommonOptions const& o) {
  MappedFile const model(o.model);
  std::string_view const bytes(reinterpret_cast<char const*>(model.data()), model.size());
  return {
      file_name(o.model), hash_text(bytes), model.size(),  std::string(weight_type_name(o.weights)),
      o.prefill_chunk,    o.threads,        version_text()};
}

std::string all_presets() {
  std::string names;
  for (Preset const& preset : presets()) {
    names += (names.empty() ? "" : ";") + std::string(preset.name);
  }
  return names;
}

SubjectPlan make_plan(LabOptions const& o) {
  SubjectPlan plan;
  plan.tasks = parse_tasks(o.tasks);
  plan.contexts = parse_list(o.contexts, "--contexts", 256, 1 << 24);
  std::sort(plan.contexts.begin(), plan.contexts.end());
  plan.contexts.erase(std::unique(plan.contexts.begin(), plan.contexts.end()), plan.contexts.end());
  std::set<std::string> seen;
  for (std::string const& path : split(o.texts, ',')) {
    if (!seen.insert(path).second) {
      throw UserError("--texts: '" + path + "' is given twice");
    }
    plan.texts.push_back({file_name(path), read_text_file(path)});
  }
  plan.offset = o.offset;
  plan.pieces = o.chunks;
  plan.trials = o.trials;
  plan.depths = parse_list(o.depths, "--depths", 0, 100);
  plan.hops = parse_list(o.hops, "--hops", 0, 10);
  plan.copy_sentences = o.copy_sentences;
  plan.seed = o.seed;
  return plan;
}

/// Cells done and to do, and the time that those take; one line on stderr for each cell that ends.
class LabProgress {
 public:
  explicit LabProgress(bool terminal) : terminal_(terminal) {}

  std::size_t cells = 0;
  std::size_t finished = 0;
  double seconds_left = 0.0;

  void begins(std::string const& what) const {
    if (terminal_) {
      std::fprintf(stderr, "\r\x1b[K%s, now %s", counts().c_str(), what.c_str());
      std::fflush(stderr);
    }
  }

  void ended(std::string const& what, std::string const& result) const {
    std::fprintf(stderr, "%s%s: %s: %s\n", terminal_ ? "\r\x1b[K" : "", counts().c_str(),
                 what.c_str(), result.c_str());
    std::fflush(stderr);
  }

  void clear() const {
    if (terminal_) {
      std::fprintf(stderr, "\r\x1b[K");
      std::fflush(stderr);
    }
  }

 private:
  [[nodiscard]] std::string counts() const {
    return "lab: " + std::to_string(finished) + "/" + std::to_string(cells) + " cells, " +
           format_duration(seconds_left) + " left";
  }

  bool terminal_;
};

std::string describe(SubjectName const& s) {
  return s.task + (s.variant.empty() ? "" : " " + s.variant) + ", " + std::to_string(s.context) +
         " tokens of " + s.text + (s.piece > 0 ? " (" + std::to_string(s.piece + 1) + ")" : "");
}

std::string result_text(JsonObject const& cell) {
  if (cell.text("status") != "measured") {
    return cell.text("status") + (cell.has("least_fraction")
                                      ? ", least " + format_percent(cell.number("least_fraction"))
                                      : ", " + cell.text("reason"));
  }
  std::string text = "resident " + format_percent(cell.number("resident_of_context_mean"));
  if (cell.has("kl_mean")) {
    text += ", KL " + format_small(cell.number("kl_mean"));
  }
  if (cell.has("wanted")) {
    text += ", right " + std::to_string(cell.whole("right")) + "/" +
            std::to_string(cell.whole("wanted"));
  }
  return text;
}

/// All cells: for each, its key and subject.
struct GridCell {
  std::string key;
  std::size_t subject;
  std::string what;
};

std::vector<GridCell> list_cells(std::vector<Subject> const& subjects,
                                 std::vector<System> const& systems,
                                 std::vector<Fraction> const& fractions,
                                 Circumstances const& circumstances) {
  std::vector<GridCell> cells;
  std::unordered_set<std::string> keys;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    for (System const& system : systems) {
      for (Fraction const& fraction : fractions_of(system.name, fractions)) {
        std::string key = cell_key(subjects[i].name, system.name, fraction, circumstances);
        if (!keys.insert(key).second) {
          throw UserError("--presets: '" + system.name.label + "' is given twice");
        }
        cells.push_back({std::move(key), i,
                         describe(subjects[i].name) + ", " + system.name.label + " at " +
                             fraction_text(fraction)});
      }
    }
  }
  return cells;
}

/// Each piece of bad news at once, before the folder is made.
void check_contexts(Engine const& engine, std::vector<int> const& contexts) {
  if (contexts.back() > engine.shape().context) {
    throw UserError("--contexts: " + std::to_string(contexts.back()) +
                    " tokens are asked for, the model was trained for " +
                    std::to_string(engine.shape().context));
  }
}

void write_reports(std::string const& folder, Results const& results) {
  std::string const html = folder + "/report.html";
  std::string const markdown = folder + "/results.md";
  try {
    write_text_file(html, lab_report_html(results.cells));
    write_text_file(markdown, lab_report_markdown(results.cells));
    for (ReportPicture const& picture : lab_report_pictures(results.cells)) {
      write_text_file(folder + "/" + picture.file, picture.svg);
    }
  } catch (JsonError const& error) {
    throw UserError("'" + folder + "/results.jsonl': " + error.what());
  }
  std::printf("%s cells: %s, %s\n", format_count(results.cells.size()).c_str(),
              std::filesystem::absolute(html).c_str(), std::filesystem::absolute(markdown).c_str());
}

void dry_run(std::vector<GridCell> const& cells, std::vector<Subject> const& subjects,
             Results const& results, Estimate const& estimate) {
  double seconds = 0.0;
  std::size_t to_do = 0;
  std::unordered_set<std::string> finished;
  for (JsonObject const& cell : results.cells) {
    finished.insert(cell.text("key"));
  }
  for (GridCell const& cell : cells) {
    bool const is_finished = finished.contains(cell.key);
    std::printf("%s  %s\n", is_finished ? "done" : "to do", cell.what.c_str());
    if (!is_finished) {
      seconds += estimate.seconds(subjects[cell.subject]);
      to_do += 1;
    }
  }
  std::printf("%s cells, %s to do, about %s (h:min)\n", format_count(cells.size()).c_str(),
              format_count(to_do).c_str(), format_duration(seconds / 60.0).c_str());
}

}  // namespace

bool laboratory(LabOptions const& o) {
  std::string const path = o.out + "/results.jsonl";
  if (o.report) {
    write_reports(o.out, parse_results(read_text_file(path), path));
    return true;
  }
  if (o.texts.empty()) {
    throw UserError("--texts: which files are to be read?");
  }
  SubjectPlan const plan = make_plan(o);
  std::vector<Fraction> const fractions = parse_fractions(o.resident);
  std::string const presets = o.presets.empty() ? all_presets() : o.presets;
  std::vector<Choice> const choices = find_choices(presets);  // before the long work
  Engine engine(o.common);
  check_contexts(engine, plan.contexts);
  std::vector<System> const systems =
      make_systems(engine, choices, plan.contexts.back(), [&](std::string const& why) {
        if (o.presets.empty()) {
          std::fprintf(stderr, "lab: without %s\n", why.c_str());
        }
        return o.presets.empty();  // nobody asked for it by name
      });
  std::vector<Subject> const subjects = make_subjects(plan, engine.tokenizer());
  Circumstances const circumstances = circumstances_of(o.common);
  std::vector<GridCell> const cells = list_cells(subjects, systems, fractions, circumstances);
  std::unordered_map<std::string, std::size_t> subject_of;
  for (GridCell const& cell : cells) {
    subject_of.emplace(cell.key, cell.subject);
  }

  Estimate estimate;
  auto const learn = [&](JsonObject const& cell) {
    auto const found = subject_of.find(cell.text("key"));
    if (found != subject_of.end() && cell.has("seconds_cell")) {
      estimate.learn(subjects[found->second], cell.number("seconds_cell"));
    }
  };
  if (o.dry_run) {
    Results const results =
        std::filesystem::exists(path) ? parse_results(read_text_file(path), path) : Results();
    std::for_each(results.cells.begin(), results.cells.end(), learn);
    dry_run(cells, subjects, results, estimate);
    return true;
  }

  std::error_code error;
  std::filesystem::create_directories(o.out, error);
  if (error) {
    throw UserError("--out: cannot make the folder '" + o.out + "': " + error.message());
  }
  ResultsFile file(path);
  if (file.results().rest_bytes > 0) {
    std::fprintf(stderr, "lab: the last line of '%s' was cut short (%zu bytes); dropped\n",
                 path.c_str(), file.results().rest_bytes);
  }
  std::unordered_set<std::string> finished;
  for (JsonObject const& cell : file.results().cells) {
    finished.insert(cell.text("key"));
    learn(cell);
  }

  LabProgress progress(::isatty(STDERR_FILENO) == 1);
  progress.cells = cells.size();
  auto const count_left = [&] {
    progress.finished = 0;
    progress.seconds_left = 0.0;
    for (GridCell const& cell : cells) {
      if (finished.contains(cell.key)) {
        progress.finished += 1;
      } else {
        progress.seconds_left += estimate.seconds(subjects[cell.subject]);
      }
    }
  };
  count_left();

  interrupted = false;
  auto* const before = std::signal(SIGINT, note_interrupt);
  Measurement measurement(engine, circumstances, {machine_name(), commit_text()}, &check_interrupt);
  try {
    for (Subject const& subject : subjects) {
      std::string const what = describe(subject.name);
      std::string now;
      measurement.measure(
          subject, systems, fractions,
          {.wanted = [&](std::string const& key) { return !finished.contains(key); },
           .begins =
               [&](std::string const& label, Fraction const& fraction) {
                 now = what + ", " + label + " at " + fraction_text(fraction);
                 progress.begins(now);
               },
           .done =
               [&](Json const& cell) {
                 file.append(cell);
                 JsonObject const& read = file.results().cells.back();
                 finished.insert(read.text("key"));
                 learn(read);
                 count_left();
                 progress.ended(now, result_text(read));
                 check_interrupt();
               }});
    }
  } catch (Interrupted const&) {
    progress.clear();
    std::fprintf(stderr, "lab: stopped with %zu of %zu cells; the same command goes on\n",
                 progress.finished, progress.cells);
  }
  std::signal(SIGINT, before);
  write_reports(o.out, file.results());
  return !interrupted;
}

}  // namespace llama
