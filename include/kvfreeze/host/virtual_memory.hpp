#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/error.hpp>

#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <utility>

#if __has_include(<sys/mman.h>) && __has_include(<unistd.h>)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace kvfreeze::host {

/// @brief An owned range of address space that costs memory only where it is written.
///
/// Reads as zero until written and again after `release()`. Pages are committed by the first write
/// to them, one by one: huge pages are switched off unless `advise_huge()` asks for them, so that
/// "pages touched" is what the process pays. Where there is no mmap the range is allocated and
/// cleared at once, and `release()` only clears it.
///
/// Distinct pages may be used, and released, by different threads at the same time.
class VirtualMemory {
 public:
  /// Owns nothing: data() is null, size() is 0.
  VirtualMemory() noexcept = default;

  /// @brief Reserves at least `bytes`, rounded up to whole pages; 0 reserves nothing.
  /// @throws OutOfMemory if the system refuses the address space
  [[nodiscard]] static VirtualMemory reserve(std::size_t bytes) {
    VirtualMemory memory;
    if (bytes == 0) {
      return memory;
    }
    std::size_t const page = page_bytes();
    if (bytes > std::numeric_limits<std::size_t>::max() - page) {
      throw refused(bytes);
    }
    std::size_t const size = (bytes + page - 1) / page * page;
#ifdef MAP_ANONYMOUS
    void* const base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, map_flags(), -1, 0);
    if (base == MAP_FAILED) {
      throw refused(bytes);
    }
#ifdef MADV_NOHUGEPAGE
    // Refused by kernels without huge pages: then there is nothing to switch off.
    static_cast<void>(::madvise(base, size, MADV_NOHUGEPAGE));
#endif
#else
    void* const base = ::operator new(size, std::align_val_t{page}, std::nothrow);
    if (base == nullptr) {
      throw refused(bytes);
    }
    std::memset(base, 0, size);
#endif
    memory.data_ = static_cast<std::byte*>(base);
    memory.size_ = size;
    return memory;
  }

  VirtualMemory(VirtualMemory const&) = delete;
  VirtualMemory& operator=(VirtualMemory const&) = delete;

  VirtualMemory(VirtualMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

  VirtualMemory& operator=(VirtualMemory&& other) noexcept {
    VirtualMemory old(std::move(other));
    std::swap(data_, old.data_);
    std::swap(size_, old.size_);
    return *this;
  }

  ~VirtualMemory() {
    if (data_ != nullptr) {
#ifdef MAP_ANONYMOUS
      static_cast<void>(::munmap(data_, size_));
#else
      ::operator delete(data_, std::align_val_t{page_bytes()});
#endif
    }
  }

  /// First byte, aligned to a page; null if nothing is owned.
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

  /// Bytes reserved, a multiple of page_bytes().
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Bytes of the unit in which memory is committed and given back; a power of two.
  [[nodiscard]] static std::size_t page_bytes() noexcept {
#ifdef MAP_ANONYMOUS
    static auto const bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
#else
    return 4096;
#endif
  }

  /// @brief Gives the pages that lie wholly in [offset, offset + bytes) back; they read as zero.
  void release(std::size_t offset, std::size_t bytes) noexcept {
    KVFREEZE_ASSERT(offset <= size_ && bytes <= size_ - offset);
    std::size_t const mask = page_bytes() - 1;
    std::size_t const begin = (offset + mask) & ~mask;
    std::size_t const end = (offset + bytes) & ~mask;
    if (begin >= end) {
      return;
    }
#if defined(__linux__)
    if (::madvise(data_ + begin, end - begin, MADV_DONTNEED) == 0) {
      return;
    }
#elif defined(MAP_ANONYMOUS)
    // Elsewhere MADV_DONTNEED need not clear; mapping anew does.
    if (::mmap(data_ + begin, end - begin, PROT_READ | PROT_WRITE, map_flags() | MAP_FIXED, -1,
               0) != MAP_FAILED) {
      return;
    }
#endif
    std::memset(data_ + begin, 0, end - begin);  // locked pages, or no mmap: at least the contents
  }

  /// @brief Asks for huge pages in a range that will be written throughout. A hint: may do nothing.
  /// From then on a first write may commit up to a huge page (2 MiB on x86-64).
  void advise_huge([[maybe_unused]] std::size_t offset,
                   [[maybe_unused]] std::size_t bytes) noexcept {
    KVFREEZE_ASSERT(offset <= size_ && bytes <= size_ - offset);
#ifdef MADV_HUGEPAGE
    std::size_t const mask = page_bytes() - 1;
    std::size_t const begin = (offset + mask) & ~mask;
    std::size_t const end = (offset + bytes) & ~mask;
    if (begin < end) {
      static_cast<void>(::madvise(data_ + begin, end - begin, MADV_HUGEPAGE));
    }
#endif
  }

 private:
#ifdef MAP_ANONYMOUS
  static constexpr int map_flags() noexcept {
#ifdef MAP_NORESERVE
    return MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#else
    return MAP_PRIVATE | MAP_ANONYMOUS;
#endif
  }
#endif

  static OutOfMemory refused(std::size_t bytes) {
    return {"kvfreeze: the system refused " + std::to_string(bytes) + " bytes of address space",
            bytes};
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace kvfreeze::host
