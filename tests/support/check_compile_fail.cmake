# cmake -DCOMPILER= -DSOURCE= -DINCLUDE= -P check_compile_fail.cmake

file(STRINGS "${SOURCE}" expectation LIMIT_COUNT 1)
if(NOT expectation MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "${SOURCE}: the first line must be '// expect: REGEX'")
endif()
set(expected "${CMAKE_MATCH_1}")
set(compile "${COMPILER}" -std=c++20 -fsyntax-only -fno-diagnostics-color "-I${INCLUDE}")

execute_process(COMMAND ${compile} "${SOURCE}" RESULT_VARIABLE status ERROR_VARIABLE messages)
if(status EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: compiles, but must not")
endif()
if(NOT messages MATCHES "${expected}")
  message(FATAL_ERROR "${SOURCE}: the compiler does not say '${expected}':\n${messages}")
endif()

execute_process(COMMAND ${compile} -DKVFREEZE_FIXED "${SOURCE}" RESULT_VARIABLE status
                ERROR_VARIABLE messages)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: with KVFREEZE_FIXED it must compile:\n${messages}")
endif()
