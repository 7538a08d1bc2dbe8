# cmake "-DPROGRAMS=a;b;c" -P check_same_output.cmake: each exits with 0 and prints what the first
# one prints, which is not nothing.

foreach(program IN LISTS PROGRAMS)
  execute_process(COMMAND "${program}" RESULT_VARIABLE status OUTPUT_VARIABLE text
                  ERROR_VARIABLE errors)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${program}: ${status}\n${errors}")
  endif()
  if(text STREQUAL "")
    message(FATAL_ERROR "${program}: no output")
  endif()
  if(NOT DEFINED expected)
    set(expected "${text}")
    message(STATUS "${text}")
  elseif(NOT text STREQUAL expected)
    message(FATAL_ERROR "${program} differs:\n${text}")
  endif()
endforeach()
