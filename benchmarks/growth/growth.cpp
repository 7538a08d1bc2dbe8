// Time and bytes per token as a context grows, on keys, values and queries of a real model.
//   growth FILE [--rows 1024,...,65536] [--layers N] [--steps N] [--resident F] [--json FILE]
// FILE comes from `examples/run.sh record`. benchmarks/growth/run.sh does all of it.
//
// A context of n rows has the model's first rows (the sinks) and its last n. Where n is more than
// was recorded, older rows are made from the oldest half of the recording, the octave of distances
// [R/2, R) before its end: distances [R 2^j, R 2^(j+1)) hold 2^(j+1) copies of it, keys rotated as
// they were. Copies alone would give the far past as many times the attention. So their keys are
// moved along a direction that lowers every logit of the lane by log 2^(j+1) (least squares over
// the recorded queries; the error is printed): each further octave of distance holds as much mass
// as the last recorded one, as if attention went on falling with distance as it does there.

#include <kvfreeze/kvfreeze.hpp>
#include <kvfreeze/presets.hpp>

#include "../../examples/llama/recording_file.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using kvfreeze::Half;
using kvfreeze::Shape;
using llama::Recording;

std::size_t size(int n) { return static_cast<std::size_t>(n); }

struct Options {
  std::string file;
  std::string json;
  std::vector<int> rows{1024, 2048, 4096, 8000, 16384, 32768, 65536};
  int layers = 0;
  int steps = 24;
  int warm_up = 32;
  double resident = 0.0;
};

Recording read_layers(Options const& o) {
  Recording r = llama::read_recording(o.file);
  if (o.layers > 0) {
    r.keep_layers(o.layers);
  }
  return r;
}

/// Solves A x = b for a symmetric positive A, in place.
std::vector<double> solve(std::vector<double> a, std::vector<double> b) {
  std::size_t const n = b.size();
  for (std::size_t i = 0; i < n; ++i) {  // A = L L'
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) {
        sum -= a[i * n + k] * a[j * n + k];
      }
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      b[i] -= a[i * n + k] * b[k];
    }
    b[i] /= a[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) {
      b[i] -= a[k * n + i] * b[k];
    }
    b[i] /= a[i * n + i];
  }
  return b;
}

/// The rows of a context that is longer than the recording.
class Extension {
 public:
  static constexpr int sinks = 4;

  explicit Extension(Recording const& recording)
      : recording_(recording), end_(recording.rows - recording.queries) {
    Shape const& shape = recording.shape;
    for (int lane = 0; lane < shape.layers * shape.kv_heads; ++lane) {
      shifts_.push_back(shift_of(lane));
    }
  }

  /// Recorded rows before the first recorded query.
  [[nodiscard]] int end() const { return end_; }

  /// Root mean square of what a wanted shift of the logits by 1 is off by.
  [[nodiscard]] double error() const { return std::sqrt(square_error_ / errors_); }

  /// Where a row comes from.
  struct Source {
    int row;
    float lowered;  ///< its logits, by so much
  };

  /// @param position of the row in a context of `rows`, before the first query
  [[nodiscard]] Source source(int position, int rows) const {
    if (position < sinks) {
      return {position, 0.0F};
    }
    int const distance = rows - position;
    if (distance <= end_ - sinks) {
      return {end_ - distance, 0.0F};
    }
    int const half = end_ / 2;
    int octave = 0;
    while (distance > (end_ << (octave + 1))) {
      ++octave;
    }
    int const within = (distance - 1) % half;
    int const row = std::max(end_ - half - 1 - within, sinks);
    return {row, static_cast<float>(std::log(2.0) * (octave + 1))};
  }

  /// A row's key, lowered where it is a copy.
  void key(int lane, Source source, float* out) const {
    auto const k = recording_.key(lane, source.row);
    for (std::size_t i = 0; i < k.size(); ++i) {
      out[i] = kvfreeze::to_float(k[i]) - source.lowered * shifts_[size(lane)][i];
    }
  }

  void value(int lane, Source source, float* out) const {
    auto const v = recording_.value(lane, source.row);
    for (std::size_t i = 0; i < v.size(); ++i) {
      out[i] = kvfreeze::to_float(v[i]);
    }
  }

 private:
  /// u such that scale q.u is as near to 1 as can be for every recorded query of the lane.
  std::vector<float> shift_of(int lane) {
    Shape const& shape = recording_.shape;
    int const group = shape.query_heads / shape.kv_heads;
    std::size_t const dim = size(shape.head_dim);
    double const scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
    std::vector<double> a(dim * dim, 0.0);
    std::vector<double> b(dim, 0.0);
    auto const each_query = [&](auto const& use) {
      for (int step = 0; step < recording_.queries; ++step) {
        auto const all = recording_.query(step, lane / shape.kv_heads);
        for (int h = 0; h < group; ++h) {
          use(all.subspan(size(lane % shape.kv_heads * group + h) * dim, dim));
        }
      }
    };
    each_query([&](std::span<float const> q) {
      for (std::size_t i = 0; i < dim; ++i) {
        double const x = scale * static_cast<double>(q[i]);
        b[i] += x;
        for (std::size_t j = 0; j < dim; ++j) {
          a[i * dim + j] += x * scale * static_cast<double>(q[j]);
        }
      }
    });
    double trace = 0.0;
    for (std::size_t i = 0; i < dim; ++i) {
      trace += a[i * dim + i];
    }
    for (std::size_t i = 0; i < dim; ++i) {
      a[i * dim + i] += 1e-3 * trace / static_cast<double>(dim);
    }
    std::vector<double> const u = solve(a, b);
    each_query([&](std::span<float const> q) {
      double dot = 0.0;
      for (std::size_t i = 0; i < dim; ++i) {
        dot += scale * static_cast<double>(q[i]) * u[i];
      }
      square_error_ += (dot - 1.0) * (dot - 1.0);
      errors_ += 1.0;
    });
    return {u.begin(), u.end()};
  }

  Recording const& recording_;
  int end_;
  std::vector<std::vector<float>> shifts_;
  double square_error_ = 0.0;
  double errors_ = 0.0;
};

/// Mass by distance for the first recorded query, mean over heads: of sinks, of the recording, and
/// of each octave beyond it.
std::vector<double> masses(Recording const& r, Extension const& extension, int rows) {
  Shape const& shape = r.shape;
  int const group = shape.query_heads / shape.kv_heads;
  std::size_t const dim = size(shape.head_dim);
  float const scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  int octaves = 0;
  while ((extension.end() << octaves) < rows) {
    ++octaves;
  }
  std::vector<double> sums(size(octaves) + 2, 0.0);
  std::vector<float> key(dim);
  std::vector<double> logits(size(rows) * size(group));
  for (int lane = 0; lane < shape.layers * shape.kv_heads; ++lane) {
    auto const q =
        r.query(0, lane / shape.kv_heads).subspan(size(lane % shape.kv_heads * group) * dim);
    for (int p = 0; p < rows; ++p) {
      extension.key(lane, extension.source(p, rows), key.data());
      for (int h = 0; h < group; ++h) {
        logits[size(h) * size(rows) + size(p)] = static_cast<double>(
            scale * std::inner_product(key.begin(), key.end(),
                                       q.begin() + static_cast<std::ptrdiff_t>(size(h) * dim),
                                       0.0F));
      }
    }
    for (int h = 0; h < group; ++h) {
      auto const own = std::span(logits).subspan(size(h) * size(rows), size(rows));
      double const highest = *std::max_element(own.begin(), own.end());
      std::vector<double> part(sums.size(), 0.0);
      double sum = 0.0;
      for (int p = 0; p < rows; ++p) {
        double const mass = std::exp(own[size(p)] - highest);
        int octave = 0;
        while (rows - p > (extension.end() << octave)) {
          ++octave;
        }
        part[p < Extension::sinks ? 0 : size(octave) + 1] += mass;
        sum += mass;
      }
      for (std::size_t i = 0; i < part.size(); ++i) {
        sums[i] += part[i] / sum / static_cast<double>(shape.layers * shape.query_heads);
      }
    }
  }
  return sums;
}

/// One cache, whatever its policies.
class Subject {
 public:
  Subject() = default;
  Subject(Subject const&) = delete;
  Subject& operator=(Subject const&) = delete;
  virtual ~Subject() = default;
  virtual void append(int layer, std::span<float const> k, std::span<float const> v) = 0;
  virtual void recall(int layer, std::span<float const> q) = 0;
  virtual void attend(int layer, std::span<float const> q, std::span<float const> k,
                      std::span<float const> v, std::span<float> out) = 0;
  virtual kvfreeze::StepReport advance() = 0;

  std::vector<double> seconds{};
  std::vector<double> touched{};
  double resident = 0.0;
  double exact = 0.0;
  double compact = 0.0;
};

template <class Cache>
class SubjectOf final : public Subject {
 public:
  SubjectOf(Shape shape, kvfreeze::Limits limits)
      : cache_(shape, limits), sequence_(cache_.open()) {}

  void append(int layer, std::span<float const> k, std::span<float const> v) override {
    cache_.append(sequence_, layer, k, v);
  }

  void recall(int layer, std::span<float const> q) override { cache_.recall(sequence_, layer, q); }

  void attend(int layer, std::span<float const> q, std::span<float const> k,
              std::span<float const> v, std::span<float> out) override {
    cache_.attend(sequence_, layer, q, k, v, out);
  }

  kvfreeze::StepReport advance() override { return cache_.advance(sequence_); }

 private:
  Cache cache_;
  kvfreeze::Sequence sequence_;
};

struct Kind {
  char const* name;
  std::unique_ptr<Subject> (*make)(Shape, kvfreeze::Limits);
};

template <class Cache>
std::unique_ptr<Subject> make(Shape shape, kvfreeze::Limits limits) {
  return std::make_unique<SubjectOf<Cache>>(shape, limits);
}

constexpr std::array kinds{Kind{"Plain", &make<kvfreeze::presets::Plain<>>},
                           Kind{"UniformQuantised4", &make<kvfreeze::presets::UniformQuantised<4>>},
                           Kind{"KvFreeze", &make<kvfreeze::presets::KvFreeze<>>}};

/// K and V of a layer's rows as the cache wants them: [tokens][kv_heads][head_dim].
struct Rows {
  std::vector<float> k;
  std::vector<float> v;
};

Rows layer_rows(Recording const& r, Extension const& extension, int layer,
                std::span<Extension::Source const> sources) {
  Shape const& shape = r.shape;
  std::size_t const width = size(shape.kv_heads) * size(shape.head_dim);
  Rows rows{std::vector<float>(sources.size() * width), std::vector<float>(sources.size() * width)};
  for (std::size_t t = 0; t < sources.size(); ++t) {
    for (int head = 0; head < shape.kv_heads; ++head) {
      std::size_t const to = t * width + size(head) * size(shape.head_dim);
      extension.key(layer * shape.kv_heads + head, sources[t], rows.k.data() + to);
      extension.value(layer * shape.kv_heads + head, sources[t], rows.v.data() + to);
    }
  }
  return rows;
}

void fill(Recording const& r, Extension const& extension, int rows,
          std::span<std::unique_ptr<Subject>> subjects) {
  constexpr int chunk = 256;
  constexpr int known = 16;  // first rows, one by one, with queries: digests want to know some
  for (int at = 0; at < rows;) {
    std::vector<Extension::Source> sources;
    int const end = std::min(at < known ? at + 1 : at + chunk, rows);
    for (int p = at; p < end; ++p) {
      sources.push_back(extension.source(p, rows));
    }
    for (int layer = 0; layer < r.shape.layers; ++layer) {
      Rows const part = layer_rows(r, extension, layer, sources);
      for (auto const& subject : subjects) {
        subject->append(layer, part.k, part.v);
        if (at < known) {
          subject->recall(layer, r.query(at % r.queries, layer));
        }
      }
    }
    at = end;
    for (auto const& subject : subjects) {
      subject->advance();
    }
  }
}

/// Everything out of the processor's caches, as the model's weights do between two layers' tokens.
void flush() {
  static std::vector<std::uint64_t> block((std::size_t{96} << 20U) / 8U, 1);
  std::uint64_t sum = 0;
  for (std::uint64_t& word : block) {
    sum += word++;
  }
  if (sum == 0) {
    std::printf(" ");
  }
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

/// Decodes the recorded steps with each subject in turn.
void decode(Options const& o, Recording const& r, Extension const& extension,
            std::span<std::unique_ptr<Subject>> subjects) {
  std::vector<float> out(size(r.shape.query_heads) * size(r.shape.head_dim));
  for (int step = 0; step < o.warm_up + o.steps; ++step) {
    int const query = step % r.queries;
    Extension::Source const source{extension.end() + query, 0.0F};
    std::vector<Rows> rows;
    for (int layer = 0; layer < r.shape.layers; ++layer) {
      rows.push_back(layer_rows(r, extension, layer, {&source, 1}));
    }
    for (auto const& subject : subjects) {
      flush();
      auto const start = std::chrono::steady_clock::now();
      for (int layer = 0; layer < r.shape.layers; ++layer) {
        auto const& [k, v] = rows[size(layer)];
        subject->attend(layer, r.query(query, layer), k, v, out);
      }
      kvfreeze::StepReport const report = subject->advance();
      std::chrono::duration<double> const taken = std::chrono::steady_clock::now() - start;
      if (step >= o.warm_up) {
        subject->seconds.push_back(taken.count());
        subject->touched.push_back(static_cast<double>(report.touched_bytes));
        auto const share = [&](auto part, auto whole) {
          return static_cast<double>(part) / static_cast<double>(whole);
        };
        subject->resident = share(report.ledger.resident(), report.full_bytes);
        subject->exact = share(report.rows.exact, report.rows.total());
        subject->compact = share(report.rows.compact, report.rows.total());
      }
    }
  }
}

/// Rise for each thousand rows, by least squares.
double slope(std::vector<int> const& rows, std::vector<double> const& values) {
  auto const n = static_cast<double>(rows.size());
  double const mean_x = std::accumulate(rows.begin(), rows.end(), 0.0) / n;
  double const mean_y = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double xy = 0.0;
  double xx = 0.0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    xy += (rows[i] - mean_x) * (values[i] - mean_y);
    xx += (rows[i] - mean_x) * (rows[i] - mean_x);
  }
  return xx > 0.0 ? 1000.0 * xy / xx : 0.0;
}

int number(std::string_view text, std::string_view option) {
  int value = 0;
  auto const [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || value < 1) {
    throw std::runtime_error(std::string(option) + ": '" + std::string(text) +
                             "' is not a whole number above 0");
  }
  return value;
}

Options parse(std::span<char*> arguments) {
  Options o;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    std::string_view const name = arguments[i];
    if (!name.starts_with("--") && o.file.empty()) {
      o.file = name;
      continue;
    }
    if (i + 1 == arguments.size()) {
      throw std::runtime_error(std::string(name) + " wants a value");
    }
    std::string_view value = arguments[++i];
    if (name == "--rows") {
      o.rows.clear();
      while (true) {
        std::size_t const comma = value.find(',');
        o.rows.push_back(number(value.substr(0, comma), name));
        if (comma == std::string_view::npos) {
          break;
        }
        value.remove_prefix(comma + 1);
      }
      std::sort(o.rows.begin(), o.rows.end());
    } else if (name == "--layers") {
      o.layers = number(value, name);
    } else if (name == "--steps") {
      o.steps = number(value, name);
    } else if (name == "--resident") {
      o.resident = std::stod(std::string(value));
    } else if (name == "--json") {
      o.json = value;
    } else {
      throw std::runtime_error("unknown option '" + std::string(name) + "'");
    }
  }
  if (o.file.empty()) {
    throw std::runtime_error(
        "growth FILE [--rows LIST] [--layers N] [--steps N] [--resident F] "
        "[--json FILE]");
  }
  return o;
}

void run(Options const& o) {
  Recording const r = read_layers(o);
  if (o.warm_up + o.steps > r.queries) {
    throw std::runtime_error("--steps " + std::to_string(o.steps) + " and " +
                             std::to_string(o.warm_up) + " to warm up are more than the " +
                             std::to_string(r.queries) + " recorded queries");
  }
  Extension const extension(r);
  std::printf(
      "%d layers, %d recorded rows; a logit of a copy is lowered with an error of %.1f %%\n",
      r.shape.layers, r.rows, 100.0 * extension.error());
  std::printf("mass by distance at %d rows: ", o.rows.back());
  std::vector<double> const shares = masses(r, extension, o.rows.back());
  std::printf("sinks %.3f, recorded %.3f", shares[0], shares[1]);
  for (std::size_t i = 2; i < shares.size(); ++i) {
    std::printf(", to %d %.3f", extension.end() << (i - 1), shares[i]);
  }
  std::printf("\n\n%-8s %-18s %10s %10s %9s %8s %9s %9s %9s\n", "rows", "cache", "ms/token",
              "of Plain", "MB read", "GB/s", "exact %", "compact %", "resident %");
  std::array<std::vector<double>, kinds.size()> milliseconds;
  std::array<std::vector<double>, kinds.size()> megabytes;
  for (int const rows : o.rows) {
    std::vector<std::unique_ptr<Subject>> subjects;
    for (Kind const& kind : kinds) {
      kvfreeze::Limits limits{.max_tokens = rows + o.warm_up + o.steps, .max_sequences = 1};
      if (o.resident > 0.0 && std::string_view(kind.name) == "KvFreeze") {
        std::size_t const row = 4U * size(r.shape.head_dim * r.shape.kv_heads * r.shape.layers);
        limits.resident_bytes = static_cast<std::size_t>(
            o.resident * static_cast<double>(row * size(limits.max_tokens)));
      }
      subjects.push_back(kind.make(r.shape, limits));
    }
    fill(r, extension, rows, subjects);
    decode(o, r, extension, subjects);
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      Subject const& s = *subjects[i];
      milliseconds[i].push_back(1e3 * median(s.seconds));
      megabytes[i].push_back(1e-6 * median(s.touched));
      double const ms = milliseconds[i].back();
      double const mb = megabytes[i].back();
      std::printf("%-8s %-18s %10.3f %10.3f %9.2f %8.1f %9.1f %9.1f %9.1f\n",
                  i == 0 ? std::to_string(rows).c_str() : "", kinds[i].name, ms,
                  ms / milliseconds[0].back(), mb, mb / ms, 100.0 * s.exact, 100.0 * s.compact,
                  100.0 * s.resident);
      std::fflush(stdout);
    }
  }
  std::printf("\n%-18s %24s %24s\n", "cache", "us/token per 1,000 rows", "MB read per 1,000 rows");
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    std::printf("%-18s %24.1f %24.3f\n", kinds[i].name, 1e3 * slope(o.rows, milliseconds[i]),
                slope(o.rows, megabytes[i]));
  }
  if (!o.json.empty()) {
    std::ofstream json(o.json);
    json << "[";
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      auto const list = [&](char const* name, auto const& values) {
        json << ", \"" << name << "\": [";
        for (std::size_t j = 0; j < values.size(); ++j) {
          json << (j > 0 ? ", " : "") << values[j];
        }
        json << "]";
      };
      json << (i > 0 ? ",\n " : "") << "{\"cache\": \"" << kinds[i].name
           << "\", \"layers\": " << r.shape.layers;
      list("rows", o.rows);
      list("milliseconds_per_token", milliseconds[i]);
      list("megabytes_read_per_token", megabytes[i]);
      json << ", \"milliseconds_per_thousand_rows\": " << slope(o.rows, milliseconds[i])
           << ", \"megabytes_per_thousand_rows\": " << slope(o.rows, megabytes[i]) << "}";
    }
    json << "]\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse({argv, static_cast<std::size_t>(argc)}));
    return 0;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "growth: %s\n", error.what());
    return 2;
  }
}
