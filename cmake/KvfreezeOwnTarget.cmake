# What every executable and object library of this project is compiled with. Users of kvfreeze
# inherit none of it.

include(CheckCXXCompilerFlag)

if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  message(FATAL_ERROR "kvfreeze: tests, examples and benchmarks need g++ 12 or clang 19, or newer")
endif()

foreach(sanitizer IN LISTS KVFREEZE_ENABLE_SANITIZERS)
  if(NOT sanitizer MATCHES "^(address|undefined|leak|thread)$")
    message(FATAL_ERROR "kvfreeze: KVFREEZE_ENABLE_SANITIZERS: unknown sanitizer '${sanitizer}'")
  endif()
endforeach()

check_cxx_compiler_flag(-march=native KVFREEZE_HAS_MARCH_NATIVE)

# kvfreeze_own_target(<target> [NATIVE]): links kvfreeze, warnings, sanitizers; with NATIVE also
# the instructions of this machine, unless KVFREEZE_NATIVE is off.
function(kvfreeze_own_target target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NATIVE" "" "")
  target_link_libraries(${target} PRIVATE kvfreeze::kvfreeze)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
  if(KVFREEZE_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(arg_NATIVE AND KVFREEZE_NATIVE AND KVFREEZE_HAS_MARCH_NATIVE)
    target_compile_options(${target} PRIVATE -march=native)
  endif()
  if(KVFREEZE_ENABLE_SANITIZERS)
    list(JOIN KVFREEZE_ENABLE_SANITIZERS "," sanitizers)
    target_compile_options(${target} PRIVATE -fsanitize=${sanitizers} -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer)
    # What these find AddressSanitizer finds too, and they are a third of the compile time.
    if("undefined" IN_LIST KVFREEZE_ENABLE_SANITIZERS)
      target_compile_options(${target} PRIVATE -fno-sanitize=null,object-size,vptr)
    endif()
    target_link_options(${target} PRIVATE -fsanitize=${sanitizers})
  endif()
endfunction()
