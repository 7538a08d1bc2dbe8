# cmake -DSOURCE_DIR= -DVERSION= -P check_version.cmake: the newest release of the change log is
# the version of version.hpp, unless it is still to come.

file(STRINGS "${SOURCE_DIR}/CHANGELOG.md" headings REGEX "^## \\[")
list(POP_FRONT headings first)
if(NOT first MATCHES "^## \\[Unreleased\\]")
  message(FATAL_ERROR "CHANGELOG.md must begin with '## [Unreleased]'")
endif()
foreach(heading IN LISTS headings)
  if(NOT heading MATCHES "^## \\[([0-9]+\\.[0-9]+\\.[0-9]+)\\] - [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]$")
    message(FATAL_ERROR "CHANGELOG.md: '${heading}' is not '## [X.Y.Z] - YYYY-MM-DD'")
  endif()
  if(CMAKE_MATCH_1 VERSION_GREATER VERSION)
    message(FATAL_ERROR "CHANGELOG.md knows ${CMAKE_MATCH_1}, version.hpp says ${VERSION}")
  endif()
endforeach()
