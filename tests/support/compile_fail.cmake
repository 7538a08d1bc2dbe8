# Each tests/compile_fail/*.cpp must be rejected with the message of its first line, and accepted
# when KVFREEZE_FIXED is defined: so it is rejected for that reason alone.

file(GLOB cases CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/compile_fail/*.cpp")
foreach(case IN LISTS cases)
  get_filename_component(name "${case}" NAME_WE)
  add_test(
    NAME "compile_fail: ${name}"
    COMMAND
      "${CMAKE_COMMAND}" "-DCOMPILER=${CMAKE_CXX_COMPILER}" "-DSOURCE=${case}"
      "-DINCLUDE=${PROJECT_SOURCE_DIR}/include" -P
      "${CMAKE_CURRENT_SOURCE_DIR}/support/check_compile_fail.cmake")
  set_tests_properties("compile_fail: ${name}" PROPERTIES LABELS compile_fail)
endforeach()
