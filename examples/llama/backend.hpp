#pragma once

#include <ggml-cpp.h>

#include <memory>

struct ggml_threadpool;

namespace llama {

/// @brief ggml's processor backend with threads of its own.
class Backend {
 public:
  explicit Backend(int threads);
  Backend(Backend const&) = delete;
  Backend& operator=(Backend const&) = delete;
  ~Backend();

  [[nodiscard]] ggml_backend_t get() const { return backend_.get(); }

 private:
  struct ThreadpoolDeleter {
    void operator()(ggml_threadpool* pool) const;
  };

  std::unique_ptr<ggml_threadpool, ThreadpoolDeleter> threadpool_;
  ggml_backend_ptr backend_;  // after the pool that it uses, so that it goes first
};

}  // namespace llama
