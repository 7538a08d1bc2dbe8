#pragma once

#include "tokenizer.hpp"

#include <ggml-cpp.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// The numbers that shape a Llama-architecture model.
struct ModelShape {
  int layers = 0;
  int embedding = 0;
  int feed_forward = 0;
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocabulary = 0;
  int context = 0;  ///< the longest text that the model was trained for, tokens
  float rope_base = 0.0F;
  float norm_epsilon = 0.0F;
};

/// The tensors of one transformer layer.
struct LayerWeights {
  ggml_tensor* attention_norm = nullptr;
  ggml_tensor* query = nullptr;
  ggml_tensor* key = nullptr;
  ggml_tensor* value = nullptr;
  ggml_tensor* output = nullptr;
  ggml_tensor* feed_forward_norm = nullptr;
  ggml_tensor* gate = nullptr;
  ggml_tensor* up = nullptr;
  ggml_tensor* down = nullptr;
};

/// In what numbers the matrices are kept.
enum class WeightType {
  file,  ///< as the file has them
  f16,   ///< unpacked, rounded to 16 bits
  f32,   ///< unpacked: products without any rounding of activations
};

/// @brief "file", "f16", "f32".
std::string_view weight_type_name(WeightType type);

/// @throws UserError for any other name
WeightType parse_weight_type(std::string_view name);

/// A read-only file mapped into memory.
class MappedFile {
 public:
  explicit MappedFile(std::string const& path);
  MappedFile(MappedFile const&) = delete;
  MappedFile& operator=(MappedFile const&) = delete;
  ~MappedFile();

  [[nodiscard]] std::byte* data() const { return data_; }

  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// @brief A GGUF file: checked, its tensors ready for a graph. With WeightType::file they are read
/// where the file is mapped; otherwise they are copies.
class Model {
 public:
  /// @throws UserError if the file is missing, truncated, or not a Llama-architecture GGUF
  explicit Model(std::string const& path, WeightType weights = WeightType::file);

  [[nodiscard]] ModelShape const& shape() const { return shape_; }

  [[nodiscard]] std::vector<LayerWeights> const& layers() const { return layers_; }

  [[nodiscard]] ggml_tensor* embedding() const { return embedding_; }

  [[nodiscard]] ggml_tensor* output_norm() const { return output_norm_; }

  /// The matrix from hidden state to logits; the embedding itself where the two are tied.
  [[nodiscard]] ggml_tensor* head() const { return head_; }

  /// RoPE frequency factors, null in models that have none.
  [[nodiscard]] ggml_tensor* rope_factors() const { return rope_factors_; }

  /// @throws UserError if the file's tokenizer is of another kind than ours
  [[nodiscard]] Vocabulary vocabulary() const;

 private:
  void read_shape();
  void map_tensors();
  void convert_tensors(WeightType weights);
  void find_weights();
  [[nodiscard]] int count(std::string const& key) const;
  [[nodiscard]] float real(std::string const& key) const;
  [[nodiscard]] std::string text(std::string const& key) const;
  [[nodiscard]] ggml_tensor* optional_tensor(std::string const& name) const;
  [[nodiscard]] ggml_tensor* tensor(std::string const& name, int columns, int rows) const;
  [[noreturn]] void reject(std::string const& why) const;

  std::string path_;
  MappedFile file_;
  ggml_context_ptr tensors_;
  gguf_context_ptr gguf_;
  ggml_backend_buffer_ptr buffer_;
  ModelShape shape_;
  std::vector<LayerWeights> layers_;
  ggml_tensor* embedding_ = nullptr;
  ggml_tensor* output_norm_ = nullptr;
  ggml_tensor* head_ = nullptr;
  ggml_tensor* rope_factors_ = nullptr;
};

}  // namespace llama
