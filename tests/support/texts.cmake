# Texts that must agree with each other or with a tool.

function(kvfreeze_add_text_test name label script)
  add_test(NAME "${name}" COMMAND "${CMAKE_COMMAND}" "-DSOURCE_DIR=${PROJECT_SOURCE_DIR}" ${ARGN}
                                  -P "${CMAKE_CURRENT_SOURCE_DIR}/support/${script}")
  set_tests_properties("${name}" PROPERTIES LABELS ${label})
endfunction()

kvfreeze_add_text_test("version" docs check_version.cmake "-DVERSION=${PROJECT_VERSION}")
kvfreeze_add_text_test("readme: quick start" docs check_quick_start.cmake)

find_program(KVFREEZE_CLANG_FORMAT NAMES clang-format-19)
if(KVFREEZE_CLANG_FORMAT)
  kvfreeze_add_text_test("format" format check_format.cmake
                         "-DCLANG_FORMAT=${KVFREEZE_CLANG_FORMAT}")
endif()

find_program(KVFREEZE_CLANG_TIDY NAMES clang-tidy-19)
if(KVFREEZE_CLANG_TIDY)
  add_custom_target(
    kvfreeze_tidy
    COMMAND "${KVFREEZE_CLANG_TIDY}" --quiet "${CMAKE_CURRENT_SOURCE_DIR}/odr/first.cpp" --
            -std=c++20 "-I${PROJECT_SOURCE_DIR}/include" "-I${all_headers_dir}"
    COMMENT "clang-tidy on every public header"
    VERBATIM)
endif()
