// How an engine embeds the cache on a CUDA device: a batch of sequences, one token each a step.
//
//   05_cuda_engine [STEPS]
//
// The engine owns the model: here projections and sampling are stand-ins that fill Q, K, V and the
// logits on the device. The cache owns K and V, and answers with attention's output.
#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

namespace gpu = kvfreeze::gpu;

// A projection of the stand-in model: numbers that depend on the step, some of which repeat.
__global__ void project(float* out, int n, unsigned seed, unsigned step) {
  unsigned const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < static_cast<unsigned>(n)) {
    unsigned x = (i * 2654435761U) ^ (seed * 40503U) ^ ((step % 23U) * 97U);
    x ^= x >> 13;
    x *= 1274126177U;
    out[i] = static_cast<float>(static_cast<int>(x >> 8) % 2001 - 1000) / 500.0F;
  }
}

int main(int argc, char** argv) try {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  int const steps = argc > 1 ? std::atoi(argv[1]) : 200;

  kvfreeze::Shape const shape{.layers = 4, .query_heads = 8, .kv_heads = 2, .head_dim = 64};
  kvfreeze::Limits const limits{.max_tokens = 4096, .max_sequences = 2};
  kvfreeze::LadderScheduler<> scheduler;
  scheduler.dense = false;  // short as the contexts here are
  scheduler.stay = 16;      // what rises comes over a link: rows that stay are asked for less often
  // 64 is the model's: with 0 the same kernels are compiled for every head_dim.
  using Layout =
      kvfreeze::Layout<kvfreeze::Half, 1, kvfreeze::Grouping::kv_head, kvfreeze::LadderRows, 64>;
  gpu::KvFreezeCache<Layout> cache(shape, limits, scheduler);

  cudaStream_t raw = nullptr;
  gpu::check(cudaStreamCreateWithFlags(&raw, cudaStreamNonBlocking), "cudaStreamCreate");
  ::cuda::stream_ref const stream{raw};

  std::vector<kvfreeze::Sequence> const batch{cache.open(stream), cache.open(stream)};
  auto const rows = batch.size() * static_cast<std::size_t>(shape.head_dim);
  gpu::DeviceArray<float> const q(rows * static_cast<std::size_t>(shape.query_heads));
  gpu::DeviceArray<float> const k(rows * static_cast<std::size_t>(shape.kv_heads));
  gpu::DeviceArray<float> const v(k.size());
  gpu::DeviceArray<float> const out(q.size());
  gpu::DeviceArray<float> const logits(batch.size() * 1000);
  auto const fill = [&](gpu::DeviceArray<float> const& x, unsigned seed, unsigned step) {
    auto const n = static_cast<int>(x.size());
    project<<<static_cast<unsigned>(n + 255) / 256, 256, 0, raw>>>(x.data(), n, seed, step);
    gpu::check_launch("project");
  };

  for (int step = 0; step < steps; ++step) {
    auto const s = static_cast<unsigned>(step);
    cache.begin_async(batch, stream);
    for (int layer = 0; layer < shape.layers; ++layer) {
      auto const l = static_cast<unsigned>(layer);
      fill(q, 3 * l, s);
      fill(k, 3 * l + 1, s);
      fill(v, 3 * l + 2, s);
      cache.attend_async<float>(layer, q, k, v, out, stream);
      // ... the layer's output projection and feed-forward network read `out`
    }
    fill(logits, 99, s);
    cache.advance_async<float>(logits, stream);
    // ... the engine samples from the logits; nothing here has waited for the device
  }

  stream.wait();
  for (kvfreeze::Sequence const sequence : batch) {
    kvfreeze::StepReport const report = cache.report(sequence);
    auto const total = static_cast<double>(report.rows.total());
    auto const held = report.ledger.rows + report.ledger.digests + report.ledger.codes;
    std::printf(
        "step %u: %.1f %% of rows exact, %.1f %% compact, %.1f %% frozen; "
        "%zu of %zu bytes resident; entropy %.2f nats\n",
        report.step, 100.0 * static_cast<double>(report.rows.exact) / total,
        100.0 * static_cast<double>(report.rows.compact) / total,
        100.0 * static_cast<double>(report.rows.frozen) / total, held, report.full_bytes,
        static_cast<double>(report.entropy));
    cache.close(sequence, stream);
  }
  gpu::check(cudaStreamDestroy(raw), "cudaStreamDestroy");
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
