#pragma once

/// @file
/// @brief The library's version; the build system reads it from here.

#define KVFREEZE_VERSION_MAJOR 0
#define KVFREEZE_VERSION_MINOR 1
#define KVFREEZE_VERSION_PATCH 0
