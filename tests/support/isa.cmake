# Decisions do not depend on the processor, nor on how much the compiler optimises: one program,
# compiled for several instruction sets and with -Og but for the last, prints the same lines.

if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/isa/fingerprint.cpp")
  return()
endif()

include(CheckCXXSourceRuns)
set(isas baseline)
set(flags_baseline "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(flags_baseline -march=x86-64)
  check_cxx_source_runs(
    "int main() { return __builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\") ? 0 : 1; }"
    KVFREEZE_RUNS_AVX2)
  if(KVFREEZE_RUNS_AVX2)
    list(APPEND isas avx2)
    set(flags_avx2 -mavx2 -mfma -mf16c)
  endif()
  check_cxx_source_runs(
    "int main() { return __builtin_cpu_supports(\"avx512vl\") && __builtin_cpu_supports(\"avx512bw\") &&
                         __builtin_cpu_supports(\"avx512dq\") && __builtin_cpu_supports(\"avx512cd\") ? 0 : 1; }"
    KVFREEZE_RUNS_AVX512)
  # With clang one build of AVX-512 is enough, the native one.
  if(KVFREEZE_RUNS_AVX512 AND NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    list(APPEND isas avx512)
    set(flags_avx512 -march=x86-64-v4)
  endif()
endif()
if(KVFREEZE_HAS_MARCH_NATIVE)
  list(APPEND isas native)
  set(flags_native -march=native)
endif()

set(programs "")
foreach(isa IN LISTS isas)
  set(target kvfreeze_fingerprint_${isa})
  add_executable(${target} isa/fingerprint.cpp)
  kvfreeze_own_target(${target})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_compile_options(${target} PRIVATE ${flags_${isa}})
  if(isa STREQUAL "native")
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O2>)
  else()
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-Og>)
  endif()
  list(APPEND programs "$<TARGET_FILE:${target}>")
endforeach()

add_test(NAME "isa: same fingerprint" COMMAND
         "${CMAKE_COMMAND}" "-DPROGRAMS=${programs}" -P
         "${CMAKE_CURRENT_SOURCE_DIR}/support/check_same_output.cmake")
set_tests_properties("isa: same fingerprint" PROPERTIES LABELS isa)
