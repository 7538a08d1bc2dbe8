#include "counting_new.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define KVFREEZE_TEST_POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define KVFREEZE_TEST_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define KVFREEZE_TEST_POISON(p, n) static_cast<void>(0)
#define KVFREEZE_TEST_UNPOISON(p, n) static_cast<void>(0)
#endif

namespace {

std::atomic<std::uint64_t> calls{0};
std::atomic<std::size_t> live_bytes{0};

// The size is kept in front of the memory handed out.
constexpr std::size_t room_for_size(std::size_t alignment) noexcept {
  return std::max(alignment, alignof(std::max_align_t));
}

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  std::size_t const room = room_for_size(alignment);
  std::size_t const total = (size + room + room - 1) / room * room;
  if (total < size) {
    return nullptr;
  }
  auto* const block = static_cast<std::byte*>(std::aligned_alloc(room, total));
  if (block == nullptr) {
    return nullptr;
  }
  std::memcpy(block, &size, sizeof size);
  KVFREEZE_TEST_POISON(block, room);
  calls.fetch_add(1, std::memory_order_relaxed);
  live_bytes.fetch_add(size, std::memory_order_relaxed);
  return block + room;
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  void* const p = allocate(size, alignment);
  if (p == nullptr) {
    throw std::bad_alloc{};
  }
  return p;
}

void deallocate(void* p, std::size_t alignment) noexcept {
  if (p == nullptr) {
    return;
  }
  std::byte* const block = static_cast<std::byte*>(p) - room_for_size(alignment);
  KVFREEZE_TEST_UNPOISON(block, room_for_size(alignment));
  std::size_t size = 0;
  std::memcpy(&size, block, sizeof size);
  live_bytes.fetch_sub(size, std::memory_order_relaxed);
  std::free(block);
}

}  // namespace

namespace kvfreeze_test {

Allocations allocations() noexcept {
  return {calls.load(std::memory_order_relaxed), live_bytes.load(std::memory_order_relaxed)};
}

}  // namespace kvfreeze_test

void* operator new(std::size_t size) { return allocate_or_throw(size, 1); }

void* operator new[](std::size_t size) { return allocate_or_throw(size, 1); }

void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}

void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}

void* operator new(std::size_t size, std::nothrow_t const&) noexcept { return allocate(size, 1); }

void* operator new[](std::size_t size, std::nothrow_t const&) noexcept { return allocate(size, 1); }

void* operator new(std::size_t size, std::align_val_t alignment, std::nothrow_t const&) noexcept {
  return allocate(size, static_cast<std::size_t>(alignment));
}

void* operator new[](std::size_t size, std::align_val_t alignment, std::nothrow_t const&) noexcept {
  return allocate(size, static_cast<std::size_t>(alignment));
}

void operator delete(void* p) noexcept { deallocate(p, 1); }

void operator delete[](void* p) noexcept { deallocate(p, 1); }

void operator delete(void* p, std::size_t) noexcept { deallocate(p, 1); }

void operator delete[](void* p, std::size_t) noexcept { deallocate(p, 1); }

void operator delete(void* p, std::align_val_t alignment) noexcept {
  deallocate(p, static_cast<std::size_t>(alignment));
}

void operator delete[](void* p, std::align_val_t alignment) noexcept {
  deallocate(p, static_cast<std::size_t>(alignment));
}

void operator delete(void* p, std::size_t, std::align_val_t alignment) noexcept {
  deallocate(p, static_cast<std::size_t>(alignment));
}

void operator delete[](void* p, std::size_t, std::align_val_t alignment) noexcept {
  deallocate(p, static_cast<std::size_t>(alignment));
}

void operator delete(void* p, std::nothrow_t const&) noexcept { deallocate(p, 1); }

void operator delete[](void* p, std::nothrow_t const&) noexcept { deallocate(p, 1); }

void operator delete(void* p, std::align_val_t alignment, std::nothrow_t const&) noexcept {
  deallocate(p, static_cast<std::size_t>(alignment));
}

void operator delete[](void* p, std::align_val_t alignment, std::nothrow_t const&) noexcept {
  deallocate(p, static_cast<std::size_t>(alignment));
}
