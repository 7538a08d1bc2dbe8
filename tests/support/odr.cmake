# Two translation units that include everything: a function that lacks `inline` fails to link.

add_executable(kvfreeze_odr odr/main.cpp odr/first.cpp odr/second.cpp)
kvfreeze_own_target(kvfreeze_odr)
target_compile_options(kvfreeze_odr PRIVATE -O0)
target_include_directories(kvfreeze_odr PRIVATE "${all_headers_dir}")
add_test(NAME odr COMMAND kvfreeze_odr)
set_tests_properties(odr PROPERTIES LABELS odr)
