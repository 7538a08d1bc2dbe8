// What llama.cpp's quantised KV caches cost in predictions: KL against its own 16-bit cache, flash
// attention on, over the positions of a text that `score` compares.
//
//   llama_kv_types MODEL.gguf TOKENS FROM THREADS TYPE...
//
// TOKENS is a file of token ids; positions FROM on count; TYPE is a ggml type for both keys and
// values: q4_0, q8_0, ... Prints a line for each: type, bits of an element, mean KL (nats), its
// 99th percentile, share of positions whose likeliest token is the same, perplexity.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <llama.h>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Model = std::unique_ptr<llama_model, decltype(&llama_model_free)>;
using Context = std::unique_ptr<llama_context, decltype(&llama_free)>;
using Row = std::vector<float>;  // logits of a position

ggml_type type_named(std::string const& name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    auto const type = static_cast<ggml_type>(i);
    char const* const known = ggml_type_name(type);
    if (known != nullptr && name == known && ggml_blck_size(type) > 0) {
      return type;
    }
  }
  throw std::invalid_argument("ggml has no type '" + name + "'");
}

/// Logits that predict the tokens from position `from` on.
std::vector<Row> predict(llama_model* model, std::vector<llama_token> const& tokens, int from,
                         int threads, ggml_type type) {
  auto const count = static_cast<int>(tokens.size());
  llama_context_params parameters = llama_context_default_params();
  parameters.n_ctx = static_cast<std::uint32_t>(count);
  parameters.n_batch = static_cast<std::uint32_t>(count);
  parameters.n_threads = threads;
  parameters.n_threads_batch = threads;
  parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
  parameters.type_k = type;
  parameters.type_v = type;
  Context const context(llama_init_from_model(model, parameters), &llama_free);
  if (context == nullptr) {
    throw std::runtime_error(std::string("no context with a cache of ") + ggml_type_name(type));
  }
  llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (int i = 0; i < count; ++i) {
    batch.token[i] = tokens[static_cast<std::size_t>(i)];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = i + 1 >= from && i + 1 < count ? 1 : 0;
  }
  int const failed = llama_decode(context.get(), batch);
  llama_batch_free(batch);
  if (failed != 0) {
    throw std::runtime_error("llama_decode returned " + std::to_string(failed));
  }
  int const vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::vector<Row> rows;
  for (int i = from - 1; i + 1 < count; ++i) {
    float const* const logits = llama_get_logits_ith(context.get(), i);
    rows.emplace_back(logits, logits + vocabulary);
  }
  return rows;
}

double log_sum(Row const& logits) {
  double const most = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0.0;
  for (float const x : logits) {
    sum += std::exp(static_cast<double>(x) - most);
  }
  return most + std::log(sum);
}

/// KL(p || q) in nats.
double divergence(Row const& p, Row const& q) {
  double const p_sum = log_sum(p);
  double const q_sum = log_sum(q);
  double kl = 0.0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    double const log_p = static_cast<double>(p[i]) - p_sum;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_sum));
  }
  return kl;
}

std::ptrdiff_t likeliest(Row const& logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

void print_figures(ggml_type type, std::vector<Row> const& reference,
                   std::vector<Row> const& candidate, std::vector<llama_token> const& tokens,
                   int from) {
  std::vector<double> kls;
  double sum = 0.0;
  double surprise = 0.0;
  int same = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    kls.push_back(divergence(reference[i], candidate[i]));
    sum += kls.back();
    same += likeliest(reference[i]) == likeliest(candidate[i]) ? 1 : 0;
    auto const next = static_cast<std::size_t>(tokens[static_cast<std::size_t>(from) + i]);
    surprise += log_sum(candidate[i]) - static_cast<double>(candidate[i][next]);
  }
  auto const n = static_cast<double>(kls.size());
  std::sort(kls.begin(), kls.end());
  double const bits =
      8.0 * static_cast<double>(ggml_type_size(type)) / static_cast<double>(ggml_blck_size(type));
  std::printf("%s %.2f %.4g %.4g %.4f %.4f\n", ggml_type_name(type), bits, sum / n,
              kls[static_cast<std::size_t>(0.99 * (n - 1.0))], same / n, std::exp(surprise / n));
}

int run(std::vector<std::string> const& arguments) {
  if (arguments.size() < 5) {
    throw std::invalid_argument("llama_kv_types MODEL.gguf TOKENS FROM THREADS TYPE...");
  }
  std::ifstream file(arguments[1]);
  std::vector<llama_token> tokens;
  for (llama_token token = 0; file >> token;) {
    tokens.push_back(token);
  }
  int const from = std::stoi(arguments[2]);
  int const threads = std::stoi(arguments[3]);
  if (from < 1 || static_cast<std::size_t>(from) >= tokens.size() || threads < 1) {
    throw std::invalid_argument("FROM is " + arguments[2] + ", THREADS " + arguments[3] + ", of " +
                                std::to_string(tokens.size()) + " tokens");
  }
  std::vector<ggml_type> types;
  for (std::size_t i = 4; i < arguments.size(); ++i) {
    types.push_back(type_named(arguments[i]));
  }
  auto const show_errors = [](ggml_log_level level, char const* text, void*) {
    if (level == GGML_LOG_LEVEL_ERROR) {
      std::fputs(text, stderr);
    }
  };
  llama_log_set(show_errors, nullptr);
  llama_backend_init();
  Model const model(llama_model_load_from_file(arguments[0].c_str(), llama_model_default_params()),
                    &llama_model_free);
  if (model == nullptr) {
    throw std::runtime_error("cannot load " + arguments[0]);
  }
  std::vector<Row> const reference = predict(model.get(), tokens, from, threads, GGML_TYPE_F16);
  for (ggml_type const type : types) {
    print_figures(type, reference, predict(model.get(), tokens, from, threads, type), tokens, from);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (std::exception const& error) {
    std::fprintf(stderr, "llama_kv_types: %s\n", error.what());
    return 2;
  }
}
