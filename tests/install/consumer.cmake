# Shared by the consumers: what their authors write after they have got the target.

if(TARGET kvfreeze_unit OR TARGET kvfreeze_header_tests)
  message(FATAL_ERROR "kvfreeze's tests must not be built by projects that use it")
endif()
get_target_property(options kvfreeze::kvfreeze INTERFACE_COMPILE_OPTIONS)
if(options)
  message(FATAL_ERROR "kvfreeze must not add compiler options to its users: ${options}")
endif()

add_executable(consumer "${CMAKE_CURRENT_LIST_DIR}/consumer.cpp")
target_link_libraries(consumer PRIVATE kvfreeze::kvfreeze)
target_compile_definitions(consumer PRIVATE "EXPECTED_VERSION=\"${EXPECTED_VERSION}\"")
