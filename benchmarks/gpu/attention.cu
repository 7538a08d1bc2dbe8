// Decode attention of one layer of an 8B model (32 query heads, 8 KV heads, head_dim 128, fp16)
// over exact rows, beside a measured device copy. Every launch reads other rows than those before,
// so that the L2 holds none of them. Medians over rounds of launches one behind another.
//
//   attention [--small] [--out FILE]      --small: sizes and rounds for an emulator

#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/gpu/exact_logits.cuh>

#include "harness.cuh"
#include "random_words.cuh"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using namespace kvfreeze::gpu::bench;

constexpr int query_heads = 32;
constexpr int kv_heads = 8;
constexpr int group = query_heads / kv_heads;
constexpr int head_dim = 128;
constexpr int page_tokens = 16;
constexpr std::size_t row_bytes = 2 * head_dim * sizeof(Half);  // K and V of a KV head

struct Settings : Options {
  [[nodiscard]] int rounds() const { return small ? 2 : 21; }

  /// Rows that are read before the same ones are read again: several times the L2.
  [[nodiscard]] std::size_t fresh_bytes() const {
    return small ? std::size_t{1} << 16U : std::size_t{512} << 20U;
  }
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
    words = random_words(copies * bytes() / sizeof(std::uint32_t), 1);
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
    list = upload(numbers);
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
      attended.push_back(upload(all));
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        all[lane].logits = logits.data() + lane * group * rows;
        all[lane].stride = rows;
      }
      ranked.push_back(upload(all));
    }
    shape.group = group;
    shape.head_dim = head_dim;
    shape.octaves = 0.1275F;
    shape.longest = rows;
    counts = upload(std::vector<std::uint32_t>(lanes, static_cast<std::uint32_t>(rows)));
    std::vector<float> queries(lanes * group * head_dim);
    std::normal_distribution<float> normal;
    std::generate(queries.begin(), queries.end(), [&] { return normal(random); });
    q = upload(queries);
    out = DeviceArray<float>(queries.size());
    lse = DeviceArray<float>(lanes * group);
    tickets = upload(std::vector<std::uint32_t>(decode_attention_tickets(shape, lanes)));
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

void write(Settings const& settings, double copy, std::vector<Result> const& results) {
  write_results(settings, [&](std::FILE* file) {
    std::fprintf(file,
                 "{\n  \"device\": \"%s\",\n  \"small\": %s,\n  \"rounds\": %d,\n"
                 "  \"copy_gb_per_s\": %.1f,\n  \"results\": [",
                 device_name().c_str(), settings.small ? "true" : "false", settings.rounds(), copy);
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
  });
}

int run(Settings const& settings) {
  Stream const stream;
  Timer timer(stream);
  double const copy = copy_gb_per_s(settings.small, settings.rounds(), stream, timer);
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
              measure(timer, settings.rounds(), launches, [&](int i) { batch.attend(i, stream); }),
              bytes});
        note({"logits", name_of(listing), sequences, context,
              measure(timer, settings.rounds(), launches, [&](int i) { batch.rank(i, stream); }),
              bytes / 2 + static_cast<double>(batch.logits.size_bytes())});
      }
    }
  }
  write(settings, copy, results);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark("attention", argc, argv,
                       [](Options const& options) { return run(Settings{options}); });
}
