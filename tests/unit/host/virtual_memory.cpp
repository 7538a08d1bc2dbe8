#include <kvfreeze/host/virtual_memory.hpp>

#include <catch2/catch.hpp>

#include <utility>

using kvfreeze::OutOfMemory;
using kvfreeze::host::VirtualMemory;

TEST_CASE("reserved memory is whole pages that read as zero", "[host]") {
  VirtualMemory const memory = VirtualMemory::reserve(10);
  REQUIRE(memory.size() == VirtualMemory::page_bytes());
  for (std::size_t i = 0; i < memory.size(); ++i) {
    REQUIRE(memory.data()[i] == std::byte{0});
  }
  REQUIRE(VirtualMemory::reserve(0).data() == nullptr);
}

TEST_CASE("address space costs nothing until written", "[host]") {
  VirtualMemory const memory = VirtualMemory::reserve(std::size_t{1} << 40);
  memory.data()[memory.size() - 1] = std::byte{1};
  REQUIRE(memory.data()[memory.size() - 1] == std::byte{1});
}

TEST_CASE("release clears the whole pages inside a range, and no others", "[host]") {
  std::size_t const page = VirtualMemory::page_bytes();
  VirtualMemory memory = VirtualMemory::reserve(4 * page);
  for (std::size_t i = 0; i < memory.size(); ++i) {
    memory.data()[i] = std::byte{7};
  }
  memory.release(page - 1, 2 * page);  // one whole page
  REQUIRE(memory.data()[page - 1] == std::byte{7});
  REQUIRE(memory.data()[page] == std::byte{0});
  REQUIRE(memory.data()[2 * page - 1] == std::byte{0});
  REQUIRE(memory.data()[2 * page] == std::byte{7});
  memory.release(page + 1, page - 2);  // none
  memory.release(3 * page + 1, page - 1);
  REQUIRE(memory.data()[4 * page - 1] == std::byte{7});
  memory.advise_huge(0, memory.size());
  REQUIRE(memory.data()[0] == std::byte{7});
}

TEST_CASE("virtual memory moves", "[host]") {
  VirtualMemory a = VirtualMemory::reserve(1);
  a.data()[0] = std::byte{5};
  VirtualMemory b(std::move(a));
  VirtualMemory c;
  c = std::move(b);
  REQUIRE(c.data()[0] == std::byte{5});
  c = VirtualMemory::reserve(1);
  REQUIRE(c.data()[0] == std::byte{0});
}

TEST_CASE("too much address space is refused with the number", "[host]") {
  for (std::size_t const bytes : {std::size_t{1} << 62, ~std::size_t{0}}) {
    try {
      static_cast<void>(VirtualMemory::reserve(bytes));
      FAIL("not refused");
    } catch (OutOfMemory const& error) {
      REQUIRE(error.bytes() == bytes);
      REQUIRE_THAT(error.what(), Catch::Contains(std::to_string(bytes)));
    }
  }
}
