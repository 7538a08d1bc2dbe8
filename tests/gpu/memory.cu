#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <catch2/catch.hpp>

#include <cstdint>
#include <gpu/device.cuh>
#include <limits>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

__global__ void add_one_kernel(Span<std::uint32_t> values) {
  unsigned const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < values.size()) {
    values[i] += 1;
  }
}

}  // namespace

TEST_CASE("Arrays move and are reached by kernels", "[memory]") {
  test::Stream const stream;
  std::vector<std::uint32_t> const values{1, 2, 3};
  auto first = test::upload(values);
  DeviceArray<std::uint32_t> const second = std::move(first);
  CHECK(first.data() == nullptr);  // NOLINT(bugprone-use-after-move)
  add_one_kernel<<<1, 32, 0, stream.get()>>>(second.span());
  check_launch("add_one_kernel");
  CHECK(test::download(second, stream) == std::vector<std::uint32_t>{2, 3, 4});

  PinnedArray<std::uint32_t> pinned(2);
  pinned[0] = 7;
  pinned[1] = 8;
  add_one_kernel<<<1, 32, 0, stream.get()>>>(Span<std::uint32_t>(pinned.device(), 2));
  check_launch("add_one_kernel");
  stream.wait();
  CHECK(pinned[0] == 8);
  CHECK(pinned[1] == 9);
}

TEST_CASE("Memory that is not there is refused with its size", "[memory]") {
  constexpr std::size_t much = std::size_t{1} << 50U;
  try {
    DeviceArray<std::byte> const array(much);
    FAIL("2^50 bytes were allocated");
  } catch (OutOfMemory const& error) {
    CHECK(error.bytes() == much);
  }
  CHECK_THROWS_AS(DeviceArray<double>(std::numeric_limits<std::size_t>::max()), OutOfMemory);
  CHECK_THROWS_AS(check_launch((add_one_kernel<<<1, 4096>>>({}), "add_one_kernel")), CudaError);
  CHECK_NOTHROW(check(cudaGetLastError(), "cudaGetLastError"));  // the error was taken off
}

TEST_CASE("A workspace grows and is checked", "[memory]") {
  Workspace workspace(100);
  workspace.reserve(50);
  CHECK(workspace.bytes() == 100);
  workspace.reserve(1000);
  CHECK(workspace.bytes() == 1000);
  CHECK_NOTHROW(gpu::detail::check_workspace("f", workspace, 1000));
  CHECK_THROWS_AS(gpu::detail::check_workspace("f", workspace, 1001), InvalidArgument);
  CHECK_THROWS_AS(gpu::detail::check_workspace("f", workspace.span().subspan(8), 8),
                  InvalidArgument);
  gpu::detail::WorkspaceLayout layout;
  CHECK(layout.take<float>(3) == nullptr);
  CHECK(layout.take<std::uint8_t>(300) == nullptr);
  CHECK(layout.bytes() == 256 + 512);
}
