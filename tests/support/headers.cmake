# Every public header compiles alone, twice in one file, and beside macros that system headers are
# known to define.

set(poison "")
foreach(name I B0 small near far unix linux CHECK ASSERT)
  string(APPEND poison "#undef ${name}\n#define ${name} kvfreeze_must_not_use_${name}\n")
endforeach()

set(header_sources "")
set(all_includes "")
foreach(header IN LISTS kvfreeze_headers)
  file(RELATIVE_PATH name "${PROJECT_SOURCE_DIR}/include" "${header}")
  string(MAKE_C_IDENTIFIER "${name}" id)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/headers/${id}.cpp")
  file(CONFIGURE OUTPUT "${source}"
       CONTENT "${poison}#include <${name}>\n#include <${name}>\n" @ONLY)
  list(APPEND header_sources "${source}")
  string(APPEND all_includes "#include <${name}>\n")
endforeach()

# All of them in one file: for the tests that want the whole library.
set(all_headers_dir "${CMAKE_CURRENT_BINARY_DIR}/headers/all")
file(CONFIGURE OUTPUT "${all_headers_dir}/all_headers.hpp"
     CONTENT "#pragma once\n\n${all_includes}" @ONLY)

if(NOT "headers" IN_LIST KVFREEZE_TEST_GROUPS)
  return()
endif()
add_library(kvfreeze_header_tests OBJECT ${header_sources})
kvfreeze_own_target(kvfreeze_header_tests)
target_compile_options(kvfreeze_header_tests PRIVATE -O0)
