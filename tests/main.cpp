// Compiled once, without optimisation: the most expensive translation unit of the suite.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
