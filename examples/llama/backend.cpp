#include "backend.hpp"

#include <ggml-cpu.h>

namespace llama {

Backend::Backend(int threads) : backend_(ggml_backend_cpu_init()) {
  ggml_threadpool_params parameters = ggml_threadpool_params_default(threads);
  threadpool_.reset(ggml_threadpool_new(&parameters));
  ggml_backend_cpu_set_threadpool(backend_.get(), threadpool_.get());
  ggml_backend_cpu_set_n_threads(backend_.get(), threads);
}

Backend::~Backend() = default;

void Backend::ThreadpoolDeleter::operator()(ggml_threadpool* pool) const {
  ggml_threadpool_free(pool);
}

}  // namespace llama
