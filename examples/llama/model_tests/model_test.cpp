#include "model.hpp"

#include <kvfreeze/error.hpp>

#include "caches.hpp"
#include "decoder.hpp"
#include "prose.hpp"
#include "quality.hpp"
#include "run.hpp"
#include "support.hpp"
#include "text.hpp"
#include "user_error.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

using namespace llama;

namespace {

std::string message_of(std::string const& path) {
  try {
    Model const model(path);
  } catch (UserError const& error) {
    return error.what();
  }
  return "";
}

/// A file with given contents, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string const& contents)
      : path_((std::filesystem::temp_directory_path() / "kvfreeze_model_test.gguf").string()) {
    write_text_file(path_, contents);
  }

  TemporaryFile(TemporaryFile const&) = delete;
  TemporaryFile& operator=(TemporaryFile const&) = delete;

  ~TemporaryFile() { std::filesystem::remove(path_); }

  [[nodiscard]] std::string const& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("files that are no model are refused with a reason") {
  CHECK(message_of("/no/such/file").find("cannot open") != std::string::npos);
  CHECK(message_of("/").find("not a regular file") != std::string::npos);
  CHECK(message_of(TemporaryFile("").path()).find("empty") != std::string::npos);
  CHECK(message_of(TemporaryFile("hello, world").path()).find("not a GGUF") != std::string::npos);
  CHECK(message_of(TemporaryFile("GGUF").path()).find("truncated") != std::string::npos);
}

TEST_CASE("a truncated model is refused wherever it ends") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  std::string const whole = read_text_file(path);
  for (std::size_t const size : {std::size_t{20}, std::size_t{1000}, std::size_t{500000},
                                 std::size_t{3000000}, whole.size() - 1}) {
    CAPTURE(size);
    TemporaryFile const part(whole.substr(0, size));
    CHECK(message_of(part.path()).find("truncated") != std::string::npos);
  }
}

TEST_CASE("the model's tokenizer gives every text back") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path);
  Tokenizer const tokenizer(model.vocabulary());
  std::string const text = std::string(default_prompt) + " na\xC3\xAFve \xE2\x82\xAC 1,234 \t\n ok";
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  CHECK(tokenizer.decode(tokenizer.encode(" the")) == " the");
  CHECK(tokenizer.encode(" the").size() == 1);
  CHECK(tokenizer.control("<|im_end|>").has_value());
}

TEST_CASE("prefill, decode and two threads agree") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path);
  Tokenizer const tokenizer(model.vocabulary());
  std::vector<int> const tokens = tokenizer.encode("The capital of France is");
  Decoder decoder(model, 1);
  Decoder two_threads(model, 2);
  Preset const& plain = find_preset("plain");
  Run at_once(decoder, plain.make(settings_for(model.shape())));
  Run one_by_one(decoder, plain.make(settings_for(model.shape())));
  Run parallel(two_threads, plain.make(settings_for(model.shape(), 2)));
  at_once.prefill(tokens);
  for (int const token : tokens) {
    one_by_one.step(token);
  }
  parallel.prefill(tokens);
  auto const top = std::max_element(at_once.logits().begin(), at_once.logits().end());
  int const best = static_cast<int>(top - at_once.logits().begin());
  CHECK(tokenizer.decode(best) == " Paris");
  // Activations are rounded to 8 bits before each product: batches may differ a little.
  CHECK(compare_logits(at_once.logits(), one_by_one.logits(), best).kl < 1e-2);
  CHECK(std::equal(at_once.logits().begin(), at_once.logits().end(), parallel.logits().begin()));
}

TEST_CASE("a cache's exception comes through ggml") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path);
  Decoder decoder(model, 1);
  CacheSettings settings = settings_for(model.shape());
  settings.limits.max_tokens = 40;
  Run run(decoder, find_preset("plain").make(settings));
  run.prefill(std::vector<int>(40, 500));
  CHECK_THROWS_AS(run.step(500), kvfreeze::CapacityError);
}
