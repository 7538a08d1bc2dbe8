#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cxxabi.h>
#include <dlfcn.h>
#include <gpu/cuda_calls.hpp>
#include <gpu/emulator_counters.hpp>
#include <memory>
#include <string>
#include <vector>

namespace kvfreeze::gpu::test {

namespace {

struct State {
  unsigned calls = 0;
  int left = 0;  ///< until the one that fails
  cudaError_t status = cudaSuccess;
  bool sticky = false;
  std::string failed;
  cudaError_t last = cudaSuccess;  ///< of launches that failed here, for cudaGetLastError()
};

State state;
int blocks = 0;
bool counting = false;
std::vector<KernelCount> counted;

/// What the call is to fail with.
cudaError_t fault_of(unsigned kind, char const* name) {
  if (state.sticky && !state.failed.empty()) {
    return state.status;
  }
  if ((state.calls & kind) == 0 || --state.left != 0) {
    return cudaSuccess;
  }
  state.failed = name;
  return state.status;
}

template <class F>
F* real(char const* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

/// Counts a block if the call gave one.
cudaError_t gave(cudaError_t status, std::size_t bytes) {
  blocks += status == cudaSuccess && bytes != 0 ? 1 : 0;
  return status;
}

/// Memory goes back even where the call is to fail: the test's own books stay right.
cudaError_t took(cudaError_t status, void const* memory) {
  blocks -= status == cudaSuccess && memory != nullptr ? 1 : 0;
  bool const fails = state.sticky && !state.failed.empty();
  return fails ? state.status : status;
}

/// A kernel's name without its namespaces and arguments.
std::string name_of(void const* kernel) {
  char const* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) != cudaSuccess || mangled == nullptr) {
    return "a kernel";
  }
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> const name(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  std::string full = status == 0 ? name.get() : mangled;
  full.resize(std::min(full.find_first_of("<("), full.size()));
  return full.substr(full.find_last_of(": ") + 1);
}

cudasimStats snapshot(cudaStream_t stream) {
  static_cast<void>(real<cudaError_t(cudaStream_t)>("cudaStreamSynchronize")(stream));
  cudasimStats stats{};
  cudasimStatsSnapshot(&stats);
  return stats;
}

/// Launches, and counts if it is asked for.
template <class F>
cudaError_t launched(void const* kernel, cudaStream_t stream, F const& launch) {
  if (cudaError_t const fault = fault_of(Calls::launches, "launch of"); fault != cudaSuccess) {
    state.last = fault;
    return fault;
  }
  if (!counting) {
    return launch();
  }
  std::string const name = name_of(kernel);
  auto found = std::find_if(counted.begin(), counted.end(),
                            [&](KernelCount const& k) { return k.name == name; });
  if (found == counted.end()) {
    found = counted.insert(counted.end(), KernelCount{.name = name});
  }
  cudasimStats const before = snapshot(stream);
  cudaError_t const status = launch();
  cudasimStats const after = snapshot(stream);
  found->launches += 1;
  found->load_bytes += after.global_load_bytes - before.global_load_bytes;
  found->load_sectors += after.global_load_sectors - before.global_load_sectors;
  found->store_bytes += after.global_store_bytes - before.global_store_bytes;
  found->store_sectors += after.global_store_sectors - before.global_store_sectors;
  found->warp_instructions += after.warp_instructions - before.warp_instructions;
  return status;
}

}  // namespace

KernelCounter::KernelCounter() {
  counted.clear();
  counting = counts();
  if (counting) {
    cudasimStatsEnableMemory(1);
  }
}

KernelCounter::~KernelCounter() {
  if (counting) {
    cudasimStatsEnableMemory(0);
  }
  counting = false;
}

bool KernelCounter::counts() { return cudasimActive != nullptr && cudasimActive() != 0; }

std::vector<KernelCount> const& KernelCounter::kernels() { return counted; }

CudaFault::CudaFault(unsigned calls, int nth, cudaError_t status, bool sticky) {
  state = {.calls = calls, .left = nth, .status = status, .sticky = sticky, .failed = {}};
}

CudaFault::~CudaFault() { state = {}; }

std::string const& CudaFault::failed() { return state.failed; }

int live_blocks() { return blocks; }

}  // namespace kvfreeze::gpu::test

extern "C" {

using kvfreeze::gpu::test::Calls;
using kvfreeze::gpu::test::fault_of;
using kvfreeze::gpu::test::gave;
using kvfreeze::gpu::test::launched;
using kvfreeze::gpu::test::real;
using kvfreeze::gpu::test::state;
using kvfreeze::gpu::test::took;

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (cudaError_t const fault = fault_of(Calls::allocations, "cudaMalloc"); fault != cudaSuccess) {
    return fault;
  }
  return gave(real<cudaError_t(void**, std::size_t)>("cudaMalloc")(memory, bytes), bytes);
}

cudaError_t cudaFree(void* memory) {
  return took(real<cudaError_t(void*)>("cudaFree")(memory), memory);
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  if (cudaError_t const fault = fault_of(Calls::pins, "cudaHostAlloc"); fault != cudaSuccess) {
    return fault;
  }
  using F = cudaError_t(void**, std::size_t, unsigned);
  return gave(real<F>("cudaHostAlloc")(memory, bytes, flags), bytes);
}

cudaError_t cudaFreeHost(void* memory) {
  return took(real<cudaError_t(void*)>("cudaFreeHost")(memory), memory);
}

cudaError_t cudaHostGetDevicePointer(void** device, void* memory, unsigned flags) {
  if (cudaError_t const fault = fault_of(Calls::maps, "cudaHostGetDevicePointer");
      fault != cudaSuccess) {
    return fault;
  }
  using F = cudaError_t(void**, void*, unsigned);
  return real<F>("cudaHostGetDevicePointer")(device, memory, flags);
}

cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  if (cudaError_t const fault = fault_of(Calls::fills, "cudaMemset"); fault != cudaSuccess) {
    return fault;
  }
  return real<cudaError_t(void*, int, std::size_t)>("cudaMemset")(memory, value, bytes);
}

cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (cudaError_t const fault = fault_of(Calls::fills, "cudaMemcpyAsync"); fault != cudaSuccess) {
    return fault;
  }
  using F = cudaError_t(void*, void const*, std::size_t, cudaMemcpyKind, cudaStream_t);
  return real<F>("cudaMemcpyAsync")(to, from, bytes, kind, stream);
}

cudaError_t cudaDeviceSynchronize() {
  if (cudaError_t const fault = fault_of(Calls::synchronisations, "cudaDeviceSynchronize");
      fault != cudaSuccess) {
    return fault;
  }
  return real<cudaError_t()>("cudaDeviceSynchronize")();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (cudaError_t const fault = fault_of(Calls::synchronisations, "cudaStreamSynchronize");
      fault != cudaSuccess) {
    return fault;
  }
  return real<cudaError_t(cudaStream_t)>("cudaStreamSynchronize")(stream);
}

/// What `<<<>>>` calls.
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared, cudaStream_t stream) {
  return launched(kernel, stream, [&] {
    using F = cudaError_t(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t);
    return real<F>("__cudaLaunchKernel")(kernel, grid, block, arguments, shared, stream);
  });
}

cudaError_t cudaLaunchKernel(void const* kernel, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared, cudaStream_t stream) {
  return launched(kernel, stream, [&] {
    using F = cudaError_t(void const*, dim3, dim3, void**, std::size_t, cudaStream_t);
    return real<F>("cudaLaunchKernel")(kernel, grid, block, arguments, shared, stream);
  });
}

cudaError_t cudaLaunchCooperativeKernel(void const* kernel, dim3 grid, dim3 block, void** arguments,
                                        std::size_t shared, cudaStream_t stream) {
  return launched(kernel, stream, [&] {
    using F = cudaError_t(void const*, dim3, dim3, void**, std::size_t, cudaStream_t);
    return real<F>("cudaLaunchCooperativeKernel")(kernel, grid, block, arguments, shared, stream);
  });
}

cudaError_t cudaLaunchKernelExC(cudaLaunchConfig_t const* config, void const* kernel,
                                void** arguments) {
  return launched(kernel, config->stream, [&] {
    using F = cudaError_t(cudaLaunchConfig_t const*, void const*, void**);
    return real<F>("cudaLaunchKernelExC")(config, kernel, arguments);
  });
}

cudaError_t cudaGetLastError() {
  cudaError_t const mine = state.last;
  state.last = state.sticky ? mine : cudaSuccess;
  cudaError_t const real_one = real<cudaError_t()>("cudaGetLastError")();
  return mine != cudaSuccess ? mine : real_one;
}
}
