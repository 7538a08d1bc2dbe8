#pragma once

#include "caches.hpp"
#include "model.hpp"
#include "run.hpp"
#include "sampler.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace llama {

/// What all commands share.
struct CommonOptions {
  std::string model;
  std::string preset = "KvFreeze";
  TierChoice tier = TierChoice::host;
  std::optional<double> resident;  ///< cap as a fraction of an ordinary cache's bytes
  std::optional<std::size_t> resident_bytes;
  std::optional<double> missed_mass;
  std::optional<int> sinks;
  std::optional<int> window;
  WeightType weights = WeightType::file;
  int context = 2048;
  int threads = 1;
  int prefill_chunk = Run::default_prefill_chunk;
  std::string json;
};

struct GenerateOptions {
  CommonOptions common;
  std::string prompt;
  std::string prompt_file;
  bool chat = false;
  bool stop_at_end = false;
  bool compare = false;
  int tokens = 500;
  SamplerOptions sampler{.temperature = 0.7, .top_p = 0.95, .repeat_penalty = 1.1};
  std::uint64_t seed = 1;
  std::optional<double> rewalk_temperature;  ///< half of the temperature where not given
  int max_rewalks = 32;
  std::string html;
};

struct ScoreOptions {
  CommonOptions common;
  std::string text;  ///< or several, with commas
  std::size_t offset = 0;
  int chunks = 1;
  int from = 512;
  std::string yardstick;
};

struct TuneOptions {
  CommonOptions common;
  std::string text;
  std::size_t offset = 0;
  int chunks = 1;
  int from = 512;
  std::string knobs;                         ///< axes; the preset's usual ones where empty
  std::string beside = "UniformQuantised4";  ///< scored too, not searched
  std::string search = "front";
  int candidates = 40;
  int batch = 8;
  std::string html;
};

struct PasskeyOptions {
  CommonOptions common;
  std::string lengths = "1500";
  std::string depths = "10,30,50,70,90";
  int keys = 1;
  std::uint64_t seed = 1;
};

struct NeedlesOptions {
  CommonOptions common;
  std::string text;
  std::size_t offset = 0;
  std::string lengths = "500,1000,2000";
  std::string depths = "10,35,60,85";
  std::string ask = "each";
  int trials = 1;
  std::uint64_t seed = 1;
};

struct RecordOptions {
  CommonOptions common;
  std::string text;
  std::size_t offset = 0;
  std::string out;
  int rows = 8192;
  int queries = 96;
  bool steps = false;  ///< decode one by one; queries and logits of every row
};

struct CalibrateOptions {
  CommonOptions common;
  std::string text;
  std::size_t offset = 0;
  int chunks = 4;
  std::string measure = "entropies";
  std::string out;
};

struct CheckOptions {
  CommonOptions common;
  std::string text;
  int tokens = 512;  ///< of the prompt
  int steps = 64;    ///< tokens decoded one by one after it
};

struct BenchOptions {
  CommonOptions common;
  std::string depths = "0,1024,2048,4096,8000";
  std::string text;
  int tokens = 32;
  int warm_up = 8;  ///< tokens decoded at each depth before those that are measured
};

struct LabOptions {
  CommonOptions common;
  std::string presets;  ///< all of them where empty
  std::string texts;
  std::string tasks = "kl,passkey,needles,tracking,copy";
  std::string resident = ".10,.15,.20,.33,.50";
  std::string contexts = "2048,4096";
  std::string depths = "10,30,50,70,90";
  std::string hops = "0,1,2,4";
  std::string out = "lab";
  std::size_t offset = 0;
  int chunks = 1;
  int trials = 1;
  int copy_sentences = 4;
  std::uint64_t seed = 1;
  bool dry_run = false;
  bool report = false;
};

}  // namespace llama
