// Decode attention of one layer of an 8B model (32 query heads, 8 KV heads, head_dim 128, fp16)
// over exact rows, beside a measured device copy. Every launch reads other rows than those before,
// so that the L2 holds none of them. Medians over rounds of launches one behind another.
//
//   attention [--small] [--out FILE]      --small: sizes and rounds for an emulator

#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/gpu/exact_logits.cuh>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

constexpr int query_heads = 32;
constexpr int kv_heads = 8;
constexpr int group = query_heads / kv_heads;
constexpr int head_dim = 128;
constexpr int page_tokens = 16;
constexpr std::size_t row_bytes = 2 * head_dim * sizeof(Half);  // K and V of a KV head

struct Settings {
  bool small = false;
  std::string out;

  [[nodiscard]] int rounds() const { return small ? 2 : 21; }

  /// Rows that are read before the same ones are read again: several times the L2.
  [[nodiscard]] std::size_t fresh_bytes() const {
    return small ? std::size_t{1} << 16U : std::size_t{512} << 20U;
  }
};

/// Numbers in [1/2, 1) of either sign: bit patterns that are all finite.
__global__ void fill_kernel(Span<std::uint32_t> words, std::uint32_t seed) {
  std::size_t const step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < words.size(); i += step) {
    std::uint32_t x = (static_cast<std::uint32_t>(i) ^ seed) * 0x9E3779B9U;
    x = (x ^ (x >> 15U)) * 0x85EBCA6BU;
    x ^= x >> 13U;
    words[i] = (x & 0x83FF83FFU) | 0x38003800U;
  }
}

template <class T>
DeviceArray<T> uploaded(std::vector<T> const& values) {
  DeviceArray<T> array(values.size());
  check(cudaMemcpy(array.data(), values.data(), array.size_bytes(), cudaMemcpyHostToDevice),
        "cudaMemcpy");
  return array;
}

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }

  Stream(Stream const&) = delete;
  Stream& operator=(Stream const&) = delete;

  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }

  [[nodiscard]] cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Times between two points of a stream.
class Timer {
 public:
  Timer() {
    check(cudaEventCreate(&begin_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }

  Timer(Timer const&) = delete;
  Timer& operator=(Timer const&) = delete;

  ~Timer() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
  }

  /// Median microseconds of one of `launches` calls of f(i), which are enqueued together.
  template <class F>
  double measure(Stream const& stream, int rounds, int launches, F const& f) {
    std::vector<double> times;
    for (int round = 0; round <= rounds; ++round) {  // the first warms up
      check(cudaEventRecord(begin_, stream.get()), "cudaEventRecord");
      for (int i = 0; i < launches; ++i) {
        f(i);
      }
      check(cudaEventRecord(end_, stream.get()), "cudaEventRecord");
      check(cudaEventSynchronize(end_), "cudaEventSynchronize");
      float milliseconds = 0.0F;
      check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
      if (round > 0) {
        times.push_back(1000.0 * static_cast<double>(milliseconds) / launches);
      }
    }
    auto const middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  }

 private:
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

/// How rows lie: pages of 16 in any order, single rows in any order, or one behind another.
enum class Listing { pages, slots, none };

char const* name_of(Listing listing) {
  return listing == Listing::pages ? "pages" : listing == Listing::slots ? "slots" : "dense";
}

/// A batch's rows, `copies` times over.
struct Batch {
  using Lanes = AttentionLanes<Half>;

  std::size_t lanes;
  std::size_t rows;
  std::size_t copies;
  DecodeShape shape;
  DeviceArray<std::uint32_t> words;  // the rows
  DeviceArray<std::uint32_t> list;
  DeviceArray<float> logits;
  // Of each copy, for logits and, without a place for them, for attention.
  std::vector<DeviceArray<AttentionLane<Half>>> ranked;
  std::vector<DeviceArray<AttentionLane<Half>>> attended;
  DeviceArray<std::uint32_t> counts;
  DeviceArray<float> q;
  DeviceArray<float> out;
  DeviceArray<float> lse;
  DeviceArray<std::uint32_t> tickets;
  Workspace workspace;

  Batch(Settings const& settings, int sequences, std::size_t context, Listing listing)
      : lanes(static_cast<std::size_t>(sequences) * kv_heads), rows(context) {
    copies = std::max<std::size_t>(settings.fresh_bytes() / bytes(), 1);
    words = DeviceArray<std::uint32_t>(copies * bytes() / sizeof(std::uint32_t));
    fill_kernel<<<1024, 256>>>(words.span(), 1);
    check_launch("fill_kernel");
    KvPages<Half> pool;
    pool.memory = Span<Half const>(reinterpret_cast<Half const*>(words.data()),
                                   copies * bytes() / sizeof(Half));
    pool.page_tokens = page_tokens;
    pool.head_dim = head_dim;
    check_pages(pool);
    // A list for each lane; of copies, each has pages of its own.
    std::size_t const entries = listing == Listing::pages ? rows / page_tokens : rows;
    std::vector<std::uint32_t> numbers(lanes * entries);
    std::iota(numbers.begin(), numbers.end(), 0U);
    std::mt19937 random(2);
    std::shuffle(numbers.begin(), numbers.end(), random);
    list = uploaded(numbers);
    std::size_t const copy_elements = bytes() / sizeof(Half);
    logits = DeviceArray<float>(lanes * group * rows);
    for (std::size_t copy = 0; copy < copies; ++copy) {
      std::vector<AttentionLane<Half>> all(lanes);
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        KvPages<Half> part = pool;
        part.memory = pool.memory.subspan(copy * copy_elements, copy_elements);
        if (listing == Listing::none) {
          part.memory = part.memory.subspan(lane * copy_elements / lanes);
        }
        std::uint32_t const* const at = list.data() + lane * entries;
        all[lane].rows = part.rows(0, listing == Listing::slots ? at : nullptr,
                                   listing == Listing::pages ? at : nullptr);
      }
      attended.push_back(uploaded(all));
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        all[lane].logits = logits.data() + lane * group * rows;
        all[lane].stride = rows;
      }
      ranked.push_back(uploaded(all));
    }
    shape.group = group;
    shape.head_dim = head_dim;
    shape.octaves = 0.1275F;
    shape.longest = rows;
    counts = uploaded(std::vector<std::uint32_t>(lanes, static_cast<std::uint32_t>(rows)));
    std::vector<float> queries(lanes * group * head_dim);
    std::normal_distribution<float> normal;
    std::generate(queries.begin(), queries.end(), [&] { return normal(random); });
    q = uploaded(queries);
    out = DeviceArray<float>(queries.size());
    lse = DeviceArray<float>(lanes * group);
    tickets = uploaded(std::vector<std::uint32_t>(decode_attention_tickets(shape, lanes)));
    workspace = Workspace(decode_attention_workspace_bytes<Lanes>(shape, lanes));
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  /// K and V of all rows.
  [[nodiscard]] std::size_t bytes() const { return lanes * rows * row_bytes; }

  void attend(int launch, Stream const& stream) {
    decode_attention_async(view(attended, launch), shape, q, out, lse, tickets, workspace,
                           ::cuda::stream_ref(stream.get()));
  }

  void rank(int launch, Stream const& stream) {
    exact_logits_async(view(ranked, launch), shape, q, ::cuda::stream_ref(stream.get()));
  }

 private:
  [[nodiscard]] Lanes view(std::vector<DeviceArray<AttentionLane<Half>>> const& descriptors,
                           int launch) const {
    return {descriptors[static_cast<std::size_t>(launch) % copies].span(), counts.span()};
  }
};

struct Result {
  char const* kernel;
  char const* listing;
  int sequences;
  std::size_t context;
  double us;
  double bytes;
};

double copy_gb_per_s(Settings const& settings, Stream const& stream, Timer& timer) {
  std::size_t const bytes = settings.small ? std::size_t{1} << 16U : std::size_t{1} << 30U;
  DeviceArray<std::byte> const from(bytes);
  DeviceArray<std::byte> const to(bytes);
  check(cudaMemset(from.data(), 1, bytes), "cudaMemset");
  double const us = timer.measure(stream, settings.rounds(), 1, [&](int) {
    check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream.get()),
          "cudaMemcpyAsync");
  });
  return 2.0 * static_cast<double>(bytes) / (1000.0 * us);  // read and written
}

void write(Settings const& settings, double copy, std::vector<Result> const& results) {
  std::FILE* const file = std::fopen(settings.out.c_str(), "w");
  if (file == nullptr) {
    throw Error("cannot write " + settings.out);
  }
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::fprintf(file,
               "{\n  \"device\": \"%s\",\n  \"small\": %s,\n  \"rounds\": %d,\n"
               "  \"copy_gb_per_s\": %.1f,\n  \"results\": [",
               properties.name, settings.small ? "true" : "false", settings.rounds(), copy);
  char const* separator = "\n";
  for (Result const& r : results) {
    double const gb = r.bytes / (1000.0 * r.us);
    std::fprintf(file,
                 "%s    {\"kernel\": \"%s\", \"rows\": \"%s\", \"batch\": %d, \"context\": %zu, "
                 "\"us\": %.3f, \"bytes\": %.0f, \"gb_per_s\": %.1f, \"of_copy\": %.4f}",
                 separator, r.kernel, r.listing, r.sequences, r.context, r.us, r.bytes, gb,
                 gb / copy);
    separator = ",\n";
  }
  std::fprintf(file, "\n  ]\n}\n");
  if (std::fclose(file) != 0) {
    throw Error("cannot write " + settings.out);
  }
}

void run(Settings const& settings) {
  Stream const stream;
  Timer timer;
  double const copy = copy_gb_per_s(settings, stream, timer);
  std::printf("%sdevice copy: %.0f GB/s\n\n%-10s %-6s %6s %8s %10s %9s %8s\n",
              settings.small ? "--small: the times say nothing\n" : "", copy, "kernel", "rows",
              "batch", "context", "us", "GB/s", "of copy");
  std::vector<Result> results;
  std::vector<std::size_t> const contexts = settings.small
                                                ? std::vector<std::size_t>{64, 256}
                                                : std::vector<std::size_t>{8192, 32768, 131072};
  std::vector<int> const batches =
      settings.small ? std::vector<int>{1, 2} : std::vector<int>{1, 4, 16};
  auto const note = [&](Result const& r) {
    results.push_back(r);
    double const gb = r.bytes / (1000.0 * r.us);
    std::printf("%-10s %-6s %6d %8zu %10.2f %9.1f %7.0f%%\n", r.kernel, r.listing, r.sequences,
                r.context, r.us, gb, 100.0 * gb / copy);
    std::fflush(stdout);
  };
  for (Listing const listing : {Listing::pages, Listing::slots, Listing::none}) {
    for (int const sequences : batches) {
      for (std::size_t const context : contexts) {
        Batch batch(settings, sequences, context, listing);
        auto const bytes = static_cast<double>(batch.bytes());
        int const launches = settings.small ? 2 : bytes < 1e9 ? 32 : 4;
        note({"attention", name_of(listing), sequences, context,
              timer.measure(stream, settings.rounds(), launches,
                            [&](int i) { batch.attend(i, stream); }),
              bytes});
        note({"logits", name_of(listing), sequences, context,
              timer.measure(stream, settings.rounds(), launches,
                            [&](int i) { batch.rank(i, stream); }),
              bytes / 2 + static_cast<double>(batch.logits.size_bytes())});
      }
    }
  }
  if (!settings.out.empty()) {
    write(settings, copy, results);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--small") == 0) {
      settings.small = true;
    } else if (std::strcmp(argv[i], "--out") == 0 && i + 1 < argc) {
      settings.out = argv[++i];
    } else {
      std::fprintf(stderr, "usage: attention [--small] [--out FILE]\n");
      return 2;
    }
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device\n");
    return 77;
  }
  try {
    run(settings);
  } catch (std::exception const& error) {
    std::fprintf(stderr, "attention: %s\n", error.what());
    return 1;
  }
  return 0;
}
