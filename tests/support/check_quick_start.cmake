# cmake -DSOURCE_DIR= -P check_quick_start.cmake: the block of README.md that follows the line
# `<!-- quick start -->` is examples/01_quick_start.cpp, or what stands there between the lines
# `// [quick start]` and `// [/quick start]`.

file(READ "${SOURCE_DIR}/README.md" readme)
set(opening "<!-- quick start -->\n```cpp\n")
string(FIND "${readme}" "${opening}" begin)
if(begin EQUAL -1)
  message(FATAL_ERROR "README.md: no ```cpp block after the line '<!-- quick start -->'")
endif()
string(LENGTH "${opening}" length)
math(EXPR begin "${begin} + ${length}")
string(SUBSTRING "${readme}" ${begin} -1 shown)
string(FIND "${shown}" "```" end)
string(SUBSTRING "${shown}" 0 ${end} shown)

file(READ "${SOURCE_DIR}/examples/01_quick_start.cpp" source)
set(opening "// [quick start]\n")
string(FIND "${source}" "${opening}" begin)
string(FIND "${source}" "// [/quick start]" end)
if(NOT begin EQUAL -1 AND NOT end EQUAL -1)
  string(LENGTH "${opening}" length)
  math(EXPR begin "${begin} + ${length}")
  math(EXPR length "${end} - ${begin}")
  string(SUBSTRING "${source}" ${begin} ${length} source)
endif()

string(STRIP "${shown}" shown)
string(STRIP "${source}" source)
if(NOT shown STREQUAL source)
  message(FATAL_ERROR "README.md shows\n${shown}\n--- but examples/01_quick_start.cpp is\n${source}")
endif()
