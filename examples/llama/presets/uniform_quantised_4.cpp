#include "uniform_quantised.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_uniform_quantised_4(CacheSettings const& settings) {
  return make_uniform_quantised_of<4>(settings);
}

}  // namespace llama
