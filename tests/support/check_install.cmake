# cmake -DWAY= -DCOMPILER= -DGENERATOR= -DVERSION= -DSOURCE_DIR= -DBINARY_DIR= -DWORK_DIR= -P ...
# Configures, builds and runs tests/install/${WAY}.

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}: ${status}\n${text}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
set(settings "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Debug
             "-DEXPECTED_VERSION=${VERSION}")
if(WAY STREQUAL "package")
  run("${CMAKE_COMMAND}" --install "${BINARY_DIR}" --prefix "${WORK_DIR}/prefix")
  list(APPEND settings "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix")

  # Every header is installed, and nothing else is.
  file(GLOB_RECURSE ours RELATIVE "${SOURCE_DIR}/include" "${SOURCE_DIR}/include/*")
  file(GLOB_RECURSE theirs RELATIVE "${WORK_DIR}/prefix/include" "${WORK_DIR}/prefix/include/*")
  if(NOT ours STREQUAL theirs)
    message(FATAL_ERROR "installed headers differ:\n${ours}\n${theirs}")
  endif()
else()
  list(APPEND settings "-DKVFREEZE_SOURCE_DIR=${SOURCE_DIR}")
endif()

run("${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${SOURCE_DIR}/tests/install/${WAY}"
    -B "${WORK_DIR}/build" ${settings})
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/build")
run("${WORK_DIR}/build/consumer")
