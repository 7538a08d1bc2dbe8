# Finds out whether there is a CUDA compiler and defines kvfreeze::gpu if so. Sets
# KVFREEZE_HAS_CUDA. Nothing here needs a device or a driver.

set(KVFREEZE_ENABLE_CUDA AUTO CACHE STRING "Build kvfreeze::gpu: AUTO (where nvcc is), ON or OFF")
set_property(CACHE KVFREEZE_ENABLE_CUDA PROPERTY STRINGS AUTO ON OFF)

set(KVFREEZE_HAS_CUDA OFF)
if(KVFREEZE_ENABLE_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  # PTX serves every device, at the price of a translation when a program starts.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    set(CMAKE_CUDA_ARCHITECTURES 80-virtual)
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(KVFREEZE_HAS_CUDA ON)
  endif()
elseif(KVFREEZE_ENABLE_CUDA)
  set(KVFREEZE_HAS_CUDA ON)
endif()

if(KVFREEZE_HAS_CUDA)
  enable_language(CUDA)
  find_package(CUDAToolkit 12.9 REQUIRED)
  include("${CMAKE_CURRENT_LIST_DIR}/KvfreezeCudaStd20.cmake")

  add_library(kvfreeze_gpu INTERFACE)
  add_library(kvfreeze::gpu ALIAS kvfreeze_gpu)
  target_link_libraries(kvfreeze_gpu INTERFACE kvfreeze CUDA::cudart)
  target_compile_features(kvfreeze_gpu INTERFACE cuda_std_20)
endif()

set(KVFREEZE_CUDA_LAUNCHERS "" CACHE STRING "name=command;...: what programs of the device run under")

# kvfreeze_own_cuda_target(<target>): links kvfreeze::gpu, warnings, the shared runtime (which tools
# that stand in for the driver can replace) and PTX that they can read.
function(kvfreeze_own_cuda_target target)
  target_link_libraries(${target} PRIVATE kvfreeze::gpu)
  set_target_properties(${target} PROPERTIES CUDA_RUNTIME_LIBRARY Shared CUDA_EXTENSIONS OFF
                                             CXX_EXTENSIONS OFF)
  set(options --compress-mode=none -lineinfo -Xcompiler=-Wall,-Wextra,-Wconversion,-Wshadow)
  if(KVFREEZE_WERROR)
    list(APPEND options -Werror=all-warnings -Xcompiler=-Werror)
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
endfunction()

# kvfreeze_add_cuda_tests(<name> <target> <label> <argument>...): one test of the program, or one for
# each launcher. Without a device they are skipped.
function(kvfreeze_add_cuda_tests name target label)
  set(launchers "device=")
  if(KVFREEZE_CUDA_LAUNCHERS)
    set(launchers ${KVFREEZE_CUDA_LAUNCHERS})
  endif()
  foreach(launcher IN LISTS launchers)
    string(REGEX MATCH "^([^=]+)=(.*)$" valid "${launcher}")
    if(NOT valid)
      message(FATAL_ERROR "KVFREEZE_CUDA_LAUNCHERS: '${launcher}' is not name=command")
    endif()
    set(test "${name}/${CMAKE_MATCH_1}")
    separate_arguments(command UNIX_COMMAND "${CMAKE_MATCH_2}")
    add_test(NAME ${test} COMMAND ${command} $<TARGET_FILE:${target}> ${ARGN})
    set_tests_properties(${test} PROPERTIES LABELS ${label} SKIP_RETURN_CODE 77 TIMEOUT 600)
  endforeach()
endfunction()
