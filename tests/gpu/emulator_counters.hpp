#pragma once

/// @file
/// @brief The counters that an emulator keeps. On a real device the functions are null.

extern "C" {
struct cudasimStats {
  unsigned long long kernel_launches, thread_instructions, warp_instructions, atomics;
  unsigned long long global_load_bytes, global_load_sectors;
  unsigned long long global_store_bytes, global_store_sectors;
  unsigned long long copies_h2d, bytes_h2d, copies_d2h, bytes_d2h, copies_d2d, bytes_d2d;
  unsigned long long memsets, host_syncs;
  unsigned long long mallocs, frees, async_mallocs, async_frees, host_allocs, host_frees;
  unsigned long long graph_launches, host_functions, event_records, stream_waits;
  unsigned long long device_bytes_in_use, checker_findings;
};

__attribute__((weak)) int cudasimActive(void);
__attribute__((weak)) void cudasimStatsReset(void);
__attribute__((weak)) void cudasimStatsSnapshot(struct cudasimStats* out);
__attribute__((weak)) void cudasimStatsEnableMemory(int on);
}
