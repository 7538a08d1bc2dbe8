# cmake -DSOURCE_DIR= -DCLANG_FORMAT= -P check_format.cmake

set(files "")
foreach(folder include tests examples benchmarks)
  file(GLOB_RECURSE found "${SOURCE_DIR}/${folder}/*.hpp" "${SOURCE_DIR}/${folder}/*.cpp"
       "${SOURCE_DIR}/${folder}/*.cuh" "${SOURCE_DIR}/${folder}/*.cu")
  list(APPEND files ${found})
endforeach()
execute_process(COMMAND "${CLANG_FORMAT}" --dry-run -Werror ${files} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "not formatted; clang-format-19 -i puts it right")
endif()
