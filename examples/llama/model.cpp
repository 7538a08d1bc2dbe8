#include "model.hpp"

#include "user_error.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace llama {

namespace {

constexpr int control_token = 3;       // of tokenizer.ggml.token_type
constexpr int user_defined_token = 4;  // of tokenizer.ggml.token_type

}  // namespace

std::string_view weight_type_name(WeightType type) {
  return type == WeightType::file ? "file" : type == WeightType::f16 ? "f16" : "f32";
}

WeightType parse_weight_type(std::string_view name) {
  for (WeightType const type : {WeightType::file, WeightType::f16, WeightType::f32}) {
    if (weight_type_name(type) == name) {
      return type;
    }
  }
  throw UserError("unknown weights '" + std::string(name) + "'; there are file, f16, f32");
}

MappedFile::MappedFile(std::string const& path) {
  int const descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    throw UserError("cannot open the model '" + path + "': " + std::strerror(errno));
  }
  struct ::stat status{};
  bool const is_file = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  if (is_file && status.st_size > 0) {
    size_ = static_cast<std::size_t>(status.st_size);
    void* const address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
    data_ = address == MAP_FAILED ? nullptr : static_cast<std::byte*>(address);
  }
  ::close(descriptor);
  if (data_ == nullptr) {
    throw UserError("cannot map the model '" + path + "': it is empty or not a regular file");
  }
}

MappedFile::~MappedFile() { ::munmap(data_, size_); }

Model::Model(std::string const& path, WeightType weights) : path_(path), file_(path) {
  if (file_.size() < 4 || std::memcmp(file_.data(), "GGUF", 4) != 0) {
    reject("it is not a GGUF file");
  }
  ggml_log_set([](ggml_log_level, char const*, void*) {}, nullptr);  // we say it ourselves
  ggml_context* tensors = nullptr;
  gguf_.reset(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = &tensors}));
  tensors_.reset(tensors);
  if (!gguf_) {
    reject("its header is broken or truncated");
  }
  if (std::string const architecture = text("general.architecture"); architecture != "llama") {
    reject("its architecture is '" + architecture + "', not 'llama'");
  }
  read_shape();
  map_tensors();
  if (weights != WeightType::file) {
    convert_tensors(weights);
  }
  find_weights();
}

void Model::read_shape() {
  shape_.layers = count("llama.block_count");
  shape_.embedding = count("llama.embedding_length");
  shape_.feed_forward = count("llama.feed_forward_length");
  shape_.query_heads = count("llama.attention.head_count");
  shape_.kv_heads = count("llama.attention.head_count_kv");
  shape_.context = count("llama.context_length");
  shape_.rope_base = real("llama.rope.freq_base");
  shape_.norm_epsilon = real("llama.attention.layer_norm_rms_epsilon");
  if (shape_.embedding % shape_.query_heads != 0 || shape_.query_heads % shape_.kv_heads != 0) {
    reject("its head counts do not divide: embedding " + std::to_string(shape_.embedding) + ", " +
           std::to_string(shape_.query_heads) + " query heads, " + std::to_string(shape_.kv_heads) +
           " KV heads");
  }
  shape_.head_dim = shape_.embedding / shape_.query_heads;
  for (char const* feature : {"llama.expert_count", "llama.rope.scaling.type"}) {
    if (gguf_find_key(gguf_.get(), feature) >= 0) {
      reject(std::string("it needs ") + feature + ", which this engine does not have");
    }
  }
}

void Model::map_tensors() {
  std::size_t const data_offset = gguf_get_data_offset(gguf_.get());
  std::int64_t const tensors = gguf_get_n_tensors(gguf_.get());
  std::size_t end = data_offset;
  for (std::int64_t i = 0; i < tensors; ++i) {
    end = std::max(end, data_offset + gguf_get_tensor_offset(gguf_.get(), i) +
                            gguf_get_tensor_size(gguf_.get(), i));
  }
  if (tensors == 0 || end > file_.size()) {
    reject("it is truncated: " + std::to_string(file_.size()) + " bytes, its tensors end at " +
           std::to_string(end));
  }
  // The backend reads the mapped pages in place: loading takes milliseconds.
  std::byte* const base = file_.data() + data_offset;
  buffer_.reset(ggml_backend_cpu_buffer_from_ptr(base, file_.size() - data_offset));
  for (std::int64_t i = 0; i < tensors; ++i) {
    ggml_tensor* const target =
        ggml_get_tensor(tensors_.get(), gguf_get_tensor_name(gguf_.get(), i));
    ggml_backend_tensor_alloc(buffer_.get(), target, base + gguf_get_tensor_offset(gguf_.get(), i));
  }
}

void Model::convert_tensors(WeightType weights) {
  std::size_t const count = static_cast<std::size_t>(gguf_get_n_tensors(gguf_.get()));
  ggml_context_ptr converted(ggml_init(
      {.mem_size = ggml_tensor_overhead() * count, .mem_buffer = nullptr, .no_alloc = true}));
  for (ggml_tensor* source = ggml_get_first_tensor(tensors_.get()); source != nullptr;
       source = ggml_get_next_tensor(tensors_.get(), source)) {
    bool const half = weights == WeightType::f16 && source->ne[1] > 1;  // matrices only
    ggml_tensor* const target = ggml_new_tensor(
        converted.get(), half ? GGML_TYPE_F16 : GGML_TYPE_F32, GGML_MAX_DIMS, source->ne);
    ggml_set_name(target, source->name);
  }
  ggml_backend_buffer_ptr memory(
      ggml_backend_alloc_ctx_tensors_from_buft(converted.get(), ggml_backend_cpu_buffer_type()));
  if (!memory) {
    throw UserError("no memory for the model's weights as " +
                    std::string(weight_type_name(weights)));
  }
  std::vector<float> row;
  for (ggml_tensor* target = ggml_get_first_tensor(converted.get()); target != nullptr;
       target = ggml_get_next_tensor(converted.get(), target)) {
    ggml_tensor const* const source = ggml_get_tensor(tensors_.get(), target->name);
    ggml_to_float_t const to_float = ggml_get_type_traits(source->type)->to_float;
    if (to_float == nullptr && source->type != GGML_TYPE_F32) {
      reject("its type " + std::string(ggml_type_name(source->type)) + " cannot be converted");
    }
    std::int64_t const columns = source->ne[0];
    row.resize(static_cast<std::size_t>(columns));
    for (std::int64_t i = 0; i < ggml_nrows(source); ++i) {
      auto const at = static_cast<std::size_t>(i);
      auto const* const from = static_cast<std::byte const*>(source->data) + at * source->nb[1];
      auto* const to = static_cast<std::byte*>(target->data) + at * target->nb[1];
      if (source->type == GGML_TYPE_F32) {
        std::memcpy(row.data(), from, row.size() * sizeof(float));
      } else {
        to_float(from, row.data(), columns);
      }
      if (target->type == GGML_TYPE_F16) {
        ggml_fp32_to_fp16_row(row.data(), reinterpret_cast<ggml_fp16_t*>(to), columns);
      } else {
        std::memcpy(to, row.data(), row.size() * sizeof(float));
      }
    }
  }
  buffer_ = std::move(memory);
  tensors_ = std::move(converted);
}

void Model::find_weights() {
  int const width = shape_.embedding;
  int const kv_width = shape_.kv_heads * shape_.head_dim;
  embedding_ = optional_tensor("token_embd.weight");
  if (embedding_ == nullptr) {
    reject("the tensor 'token_embd.weight' is missing");
  }
  shape_.vocabulary = static_cast<int>(embedding_->ne[1]);
  embedding_ = tensor("token_embd.weight", width, shape_.vocabulary);
  output_norm_ = tensor("output_norm.weight", width, 1);
  bool const tied = optional_tensor("output.weight") == nullptr;
  head_ = tied ? embedding_ : tensor("output.weight", width, shape_.vocabulary);
  rope_factors_ = optional_tensor("rope_freqs.weight");
  for (int i = 0; i < shape_.layers; ++i) {
    std::string const layer = "blk." + std::to_string(i) + ".";
    layers_.push_back({
        .attention_norm = tensor(layer + "attn_norm.weight", width, 1),
        .query = tensor(layer + "attn_q.weight", width, width),
        .key = tensor(layer + "attn_k.weight", width, kv_width),
        .value = tensor(layer + "attn_v.weight", width, kv_width),
        .output = tensor(layer + "attn_output.weight", width, width),
        .feed_forward_norm = tensor(layer + "ffn_norm.weight", width, 1),
        .gate = tensor(layer + "ffn_gate.weight", width, shape_.feed_forward),
        .up = tensor(layer + "ffn_up.weight", width, shape_.feed_forward),
        .down = tensor(layer + "ffn_down.weight", shape_.feed_forward, width),
    });
  }
}

Vocabulary Model::vocabulary() const {
  gguf_context const* const g = gguf_.get();
  if (text("tokenizer.ggml.model") != "gpt2" || text("tokenizer.ggml.pre") != "smollm") {
    reject("its tokenizer is not the byte-level BPE with the 'smollm' word rule");
  }
  auto const array = [&](char const* key, gguf_type type) {
    std::int64_t const id = gguf_find_key(g, key);
    if (id < 0 || gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g, id) != type) {
      reject(std::string("the list '") + key + "' is missing");
    }
    return id;
  };
  std::int64_t const pieces = array("tokenizer.ggml.tokens", GGUF_TYPE_STRING);
  std::int64_t const merges = array("tokenizer.ggml.merges", GGUF_TYPE_STRING);
  std::int64_t const types = array("tokenizer.ggml.token_type", GGUF_TYPE_INT32);
  if (gguf_get_arr_n(g, pieces) != static_cast<std::size_t>(shape_.vocabulary) ||
      gguf_get_arr_n(g, types) != gguf_get_arr_n(g, pieces)) {
    reject("its token lists and its embedding differ in length");
  }
  Vocabulary result;
  auto const* const type = static_cast<std::int32_t const*>(gguf_get_arr_data(g, types));
  for (std::size_t i = 0; i < gguf_get_arr_n(g, pieces); ++i) {
    result.pieces.emplace_back(gguf_get_arr_str(g, pieces, i));
    if (type[i] == control_token || type[i] == user_defined_token) {
      result.control.push_back(static_cast<int>(i));
    }
  }
  for (std::size_t i = 0; i < gguf_get_arr_n(g, merges); ++i) {
    result.merges.emplace_back(gguf_get_arr_str(g, merges, i));
  }
  return result;
}

int Model::count(std::string const& key) const {
  std::int64_t const id = gguf_find_key(gguf_.get(), key.c_str());
  if (id < 0 || gguf_get_kv_type(gguf_.get(), id) != GGUF_TYPE_UINT32) {
    reject("the number '" + key + "' is missing");
  }
  std::uint32_t const value = gguf_get_val_u32(gguf_.get(), id);
  if (value == 0 || value > (1U << 24U)) {
    reject("'" + key + "' is " + std::to_string(value));
  }
  return static_cast<int>(value);
}

float Model::real(std::string const& key) const {
  std::int64_t const id = gguf_find_key(gguf_.get(), key.c_str());
  if (id < 0 || gguf_get_kv_type(gguf_.get(), id) != GGUF_TYPE_FLOAT32) {
    reject("the number '" + key + "' is missing");
  }
  return gguf_get_val_f32(gguf_.get(), id);
}

std::string Model::text(std::string const& key) const {
  std::int64_t const id = gguf_find_key(gguf_.get(), key.c_str());
  bool const found = id >= 0 && gguf_get_kv_type(gguf_.get(), id) == GGUF_TYPE_STRING;
  return found ? gguf_get_val_str(gguf_.get(), id) : "";
}

ggml_tensor* Model::optional_tensor(std::string const& name) const {
  return ggml_get_tensor(tensors_.get(), name.c_str());
}

ggml_tensor* Model::tensor(std::string const& name, int columns, int rows) const {
  ggml_tensor* const found = optional_tensor(name);
  if (found == nullptr) {
    reject("the tensor '" + name + "' is missing");
  }
  if (found->ne[0] != columns || found->ne[1] != rows || found->ne[2] != 1) {
    reject("the tensor '" + name + "' is " + std::to_string(found->ne[1]) + " x " +
           std::to_string(found->ne[0]) + " instead of " + std::to_string(rows) + " x " +
           std::to_string(columns));
  }
  return found;
}

void Model::reject(std::string const& why) const {
  throw UserError("cannot use the model '" + path_ + "': " + why);
}

}  // namespace llama
