#include "quality.hpp"

#include "statistics.hpp"

#include <algorithm>
#include <cmath>

namespace llama {

namespace {

/// Logits minus this are log-probabilities.
double log_sum_exp(std::span<float const> logits, float highest) {
  double sum = 0.0;
  for (float const x : logits) {
    sum += std::exp(static_cast<double>(x) - static_cast<double>(highest));
  }
  return static_cast<double>(highest) + std::log(sum);
}

}  // namespace

Prediction compare_logits(std::span<float const> plain, std::span<float const> preset, int next) {
  auto const top_plain = std::max_element(plain.begin(), plain.end());
  auto const top_preset = std::max_element(preset.begin(), preset.end());
  double const norm_plain = log_sum_exp(plain, *top_plain);
  double const norm_preset = log_sum_exp(preset, *top_preset);
  double kl = 0.0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    double const log_plain = static_cast<double>(plain[i]) - norm_plain;
    double const log_preset = static_cast<double>(preset[i]) - norm_preset;
    kl += std::exp(log_plain) * (log_plain - log_preset);
  }
  auto const at = static_cast<std::size_t>(next);
  return {
      .kl = std::max(kl, 0.0),  // rounding can leave -1e-16
      .nll_plain = norm_plain - static_cast<double>(plain[at]),
      .nll = norm_preset - static_cast<double>(preset[at]),
      .same_top = top_plain - plain.begin() == top_preset - preset.begin(),
  };
}

Quality summarise(std::span<Prediction const> predictions) {
  if (predictions.empty()) {
    return {};
  }
  double kl = 0.0;
  double nll_plain = 0.0;
  double nll = 0.0;
  double same = 0.0;
  for (Prediction const& p : predictions) {
    kl += p.kl;
    nll_plain += p.nll_plain;
    nll += p.nll;
    same += p.same_top ? 1.0 : 0.0;
  }
  auto const n = static_cast<double>(predictions.size());
  std::vector<double> const each = divergences(predictions);
  Interval const interval = bootstrap_mean(each);
  return {
      .positions = predictions.size(),
      .perplexity_plain = std::exp(nll_plain / n),
      .perplexity = std::exp(nll / n),
      .perplexity_ratio = std::exp((nll - nll_plain) / n),
      .kl_mean = kl / n,
      .kl_low = interval.low,
      .kl_high = interval.high,
      .kl_p99 = percentile(each, 0.99),
      .top1_agreement = same / n,
  };
}

std::vector<double> divergences(std::span<Prediction const> predictions) {
  std::vector<double> kl;
  kl.reserve(predictions.size());
  for (Prediction const& p : predictions) {
    kl.push_back(p.kl);
  }
  return kl;
}

void put_figures(Json& json, Quality const& q) {
  json.put("perplexity_plain", q.perplexity_plain);
  json.put("perplexity", q.perplexity);
  json.put("perplexity_ratio", q.perplexity_ratio);
  json.put("kl_mean", q.kl_mean);
  json.put("kl_low", q.kl_low);
  json.put("kl_high", q.kl_high);
  json.put("kl_p99", q.kl_p99);
  json.put("top1_agreement", q.top1_agreement);
}

}  // namespace llama
