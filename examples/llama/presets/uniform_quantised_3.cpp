#include "uniform_quantised.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_uniform_quantised_3(CacheSettings const& settings) {
  return make_uniform_quantised_of<3>(settings);
}

}  // namespace llama
