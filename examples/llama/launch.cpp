// Starts the engine that was built for the best instructions this processor has: llama-avx512 or
// llama-avx2, beside this program. KVFREEZE_ISA=avx2 chooses by hand.
//
// Whole programs rather than functions: the caches are templates whose every stage calls kernels,
// so that the choice is made once, where it costs nothing.

#include <cpuid.h>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <unistd.h>

namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

/// GCC 12's __builtin_cpu_supports() has no name for F16C.
bool has_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

}  // namespace

int main(int, char** arguments) {
  char const* const wish = std::getenv("KVFREEZE_ISA");
  std::string_view isa = has_avx512() ? "avx512" : has_avx2() ? "avx2" : "";
  if (wish != nullptr) {
    std::string_view const wanted = wish;
    bool const runs = (wanted == "avx2" && has_avx2()) || (wanted == "avx512" && has_avx512());
    if (!runs) {
      std::fprintf(stderr, "llama: KVFREEZE_ISA is '%s'; this processor has %s%s\n", wish,
                   has_avx2() ? "avx2" : "neither avx2", has_avx512() ? ", avx512" : "");
      return 2;
    }
    isa = wanted;
  }
  if (isa.empty()) {
    std::fputs("llama: this processor lacks AVX2, FMA or F16C, which ggml needs\n", stderr);
    return 2;
  }
  std::error_code failed;
  std::filesystem::path const self = std::filesystem::read_symlink("/proc/self/exe", failed);
  std::string const program = (self.parent_path() / ("llama-" + std::string(isa))).string();
  ::execv(program.c_str(), arguments);
  std::perror(program.c_str());
  return 2;
}
