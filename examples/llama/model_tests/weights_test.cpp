#include "decoder.hpp"
#include "ggml_attention.hpp"
#include "model.hpp"
#include "presets/presets.hpp"
#include "prose.hpp"
#include "quality.hpp"
#include "run.hpp"
#include "support.hpp"
#include "user_error.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <span>
#include <vector>

using namespace llama;

TEST_CASE("with 32-bit weights our attention gives ggml's logits") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path, WeightType::f32);
  Tokenizer const tokenizer(model.vocabulary());
  std::vector<int> tokens = tokenizer.encode(filler_prose(6));
  tokens.resize(100);
  int const steps = 8;
  std::vector<float> const expected = logits_with_ggml_attention(model, 1, tokens, steps);
  Decoder decoder(model, 1);
  Run run(decoder, make_plain_float(settings_for(model.shape())));
  run.prefill(std::span(tokens).first(tokens.size() - steps));
  std::size_t const width = run.logits().size();
  for (std::size_t i = 0; i < steps; ++i) {
    run.step(tokens[tokens.size() - steps + i]);
    float largest = 0.0F;
    for (std::size_t j = 0; j < width; ++j) {
      largest = std::max(largest, std::fabs(run.logits()[j] - expected[i * width + j]));
    }
    CHECK(largest <= 1e-4F);
  }
}

TEST_CASE("unpacked weights are the file's") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  std::vector<std::vector<float>> logits;
  for (WeightType const type : {WeightType::f32, WeightType::f16, WeightType::file}) {
    Model const model(path, type);
    Tokenizer const tokenizer(model.vocabulary());
    Decoder decoder(model, 1);
    Run run(decoder, find_preset("plain").make(settings_for(model.shape())));
    run.prefill(tokenizer.encode("The capital of France is"));
    logits.emplace_back(run.logits().begin(), run.logits().end());
  }
  CHECK(compare_logits(logits[0], logits[1], 0).kl < 1e-4);
  CHECK(compare_logits(logits[0], logits[2], 0).kl < 2e-2);
}

TEST_CASE("weight types have names") {
  CHECK(parse_weight_type("f16") == WeightType::f16);
  CHECK(weight_type_name(WeightType::file) == "file");
  CHECK_THROWS_AS(parse_weight_type("f64"), UserError);
}
