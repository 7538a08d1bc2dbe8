#include <catch2/catch.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <recording_file.hpp>
#include <span>
#include <string>

namespace {

using llama::Recording;

/// A file that goes with the test.
struct File {
  std::string path = (std::filesystem::temp_directory_path() / "kvfreeze_recording_test").string();

  File() = default;
  File(File const&) = delete;
  File& operator=(File const&) = delete;

  ~File() { std::filesystem::remove(path); }

  [[nodiscard]] std::string bytes() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  void put(std::string const& bytes) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
};

/// Every number is different.
Recording numbered() {
  Recording r({.layers = 3, .query_heads = 4, .kv_heads = 2, .head_dim = 8}, 5, 2, 7);
  std::uint16_t next = 1;
  for (std::size_t i = 0; i < r.keys.size(); ++i) {
    r.keys[i] = {next++};
    r.values[i] = {next++};
  }
  float query = 0.5F;
  for (float& x : r.query_values) {
    x = query;
    query += 1.0F;
  }
  for (kvfreeze::BFloat16& x : r.logit_values) {
    x = {next++};
  }
  return r;
}

template <class A, class B>
bool same(A const& a, B const& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

TEST_CASE("A recording is read as it was written", "[recording]") {
  File const file;
  Recording const written = numbered();
  llama::write_recording(written, file.path);
  Recording const read = llama::read_recording(file.path);
  CHECK(read.shape.layers == 3);
  CHECK(read.shape.query_heads == 4);
  CHECK(read.shape.kv_heads == 2);
  CHECK(read.shape.head_dim == 8);
  CHECK(read.rows == 5);
  CHECK(read.queries == 2);
  CHECK(read.vocabulary == 7);
  CHECK(read.keys == written.keys);
  CHECK(read.values == written.values);
  CHECK(read.query_values == written.query_values);
  CHECK(read.logit_values == written.logit_values);
}

TEST_CASE("A recording of fewer layers has theirs", "[recording]") {
  Recording const all = numbered();
  Recording some = all;
  some.keep_layers(2);
  CHECK(some.shape.layers == 2);
  CHECK(some.keys.size() == some.row_elements());
  CHECK(some.query_values.size() == some.query_elements());
  for (int layer = 0; layer < 2; ++layer) {
    for (int query = 0; query < 2; ++query) {
      CHECK(same(some.query(query, layer), all.query(query, layer)));
    }
    for (int head = 0; head < 2; ++head) {
      CHECK(same(some.key(2 * layer + head, 4), all.key(2 * layer + head, 4)));
      CHECK(same(some.value(2 * layer + head, 1), all.value(2 * layer + head, 1)));
    }
  }
  CHECK(same(some.logits(1), all.logits(1)));
  some.keep_layers(3);
  CHECK(some.shape.layers == 2);
}

TEST_CASE("What is no recording is refused by name", "[recording]") {
  File const file;
  llama::write_recording(numbered(), file.path);
  std::string const good = file.bytes();
  auto const refused = [&](std::string const& bytes, std::string const& why) {
    file.put(bytes);
    CHECK_THROWS_AS(llama::read_recording(file.path), llama::RecordingError);
    CHECK_THROWS_WITH(llama::read_recording(file.path),
                      Catch::Contains(file.path) && Catch::Contains(why));
  };
  auto const with = [&](std::size_t at, char byte) {
    std::string bytes = good;
    bytes[at] = byte;
    return bytes;
  };
  refused("", "is no recording");
  refused("KVFREZ01" + good.substr(8), "is no recording");
  refused("KVFREC02" + good.substr(8), "is of version 02, expected 01");
  refused(good.substr(0, 20), "has a header that cannot be");
  refused(good.substr(0, good.size() - 1),
          "bytes, its header asks for " + std::to_string(good.size()));
  refused(good + "x", "bytes, its header asks for " + std::to_string(good.size()));
  refused(with(8, 0), "has a header that cannot be");        // no layers
  refused(with(8, 4), "bytes, its header asks for");         // more than there are
  refused(with(11, '\x80'), "has a header that cannot be");  // fewer than none
  refused(with(16, 3), "has a header that cannot be");       // 3 query heads for 2 KV heads
  refused(with(28, 6), "has a header that cannot be");       // 6 queries of 5 rows
  CHECK_THROWS_AS(llama::read_recording(file.path + ".missing"), llama::RecordingError);
  CHECK_THROWS_AS(llama::write_recording(numbered(), "/nowhere/at/all"), llama::RecordingError);
}
