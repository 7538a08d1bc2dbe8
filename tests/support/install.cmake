# Projects that use kvfreeze, built as their authors would: from an installation, by
# add_subdirectory and by FetchContent.

foreach(way package subdirectory fetch_content)
  add_test(
    NAME "install: ${way}"
    COMMAND
      "${CMAKE_COMMAND}" "-DWAY=${way}" "-DCOMPILER=${CMAKE_CXX_COMPILER}"
      "-DGENERATOR=${CMAKE_GENERATOR}" "-DVERSION=${PROJECT_VERSION}"
      "-DSOURCE_DIR=${PROJECT_SOURCE_DIR}" "-DBINARY_DIR=${PROJECT_BINARY_DIR}"
      "-DWORK_DIR=${CMAKE_CURRENT_BINARY_DIR}/install/${way}" -P
      "${CMAKE_CURRENT_SOURCE_DIR}/support/check_install.cmake")
  set_tests_properties("install: ${way}" PROPERTIES LABELS install TIMEOUT 300)
endforeach()
if(NOT KVFREEZE_INSTALL)
  set_tests_properties("install: package" PROPERTIES DISABLED ON)
endif()
