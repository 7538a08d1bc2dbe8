#include "uniform_quantised.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_uniform_quantised_2(CacheSettings const& settings) {
  return make_uniform_quantised_of<2>(settings);
}

}  // namespace llama
