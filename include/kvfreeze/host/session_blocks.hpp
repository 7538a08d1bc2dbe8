#pragma once

/// @file
/// @brief The blocks of a saved sequence: [tag: 4][payload bytes: 8][payload][checksum: 8], numbers
/// little-endian. A block's checksum is seeded with that of the block before: blocks that are
/// damaged, missing or out of place are found out before anything in them is used.

#include <kvfreeze/detail/checksum.hpp>
#include <kvfreeze/detail/describe.hpp>
#include <kvfreeze/error.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <istream>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvfreeze::host {

static_assert(std::endian::native == std::endian::little,
              "kvfreeze: saved sequences are little-endian, as the codes in them are");

/// What may be a number of a block: every machine has it in as many bytes.
template <class T>
concept BlockNumber = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> &&
                      (std::is_arithmetic_v<T> || std::is_enum_v<T>);

using BlockTag = std::array<char, 4>;

inline constexpr BlockTag description_block{'H', 'E', 'A', 'D'};
inline constexpr BlockTag sequence_block{'S', 'E', 'Q', 'U'};
inline constexpr BlockTag lane_block{'L', 'A', 'N', 'E'};
inline constexpr BlockTag rows_block{'R', 'O', 'W', 'S'};
inline constexpr BlockTag end_block{'E', 'N', 'D', ' '};

inline constexpr std::size_t block_head = 12;  ///< tag and size

/// Writes blocks, one at a time.
class BlockWriter {
 public:
  explicit BlockWriter(std::ostream& out) : out_(&out) {}

  /// Bytes outside of any block.
  void raw(std::span<std::byte const> bytes) {
    out_->write(reinterpret_cast<char const*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
    if (!*out_) {
      throw StreamError("save(): the stream took " + std::to_string(written_) +
                        " bytes and refused the next " + std::to_string(bytes.size()));
    }
    written_ += bytes.size();
  }

  void begin(BlockTag const& tag) {
    buffer_.resize(block_head);
    std::memcpy(buffer_.data(), tag.data(), tag.size());
  }

  template <BlockNumber T>
  void number(T const& value) {
    bytes(&value, sizeof value);
  }

  void bytes(void const* from, std::size_t count) {
    auto const* const first = static_cast<std::byte const*>(from);
    buffer_.insert(buffer_.end(), first, first + count);
  }

  void text(std::string_view text) {
    number(static_cast<std::uint32_t>(text.size()));
    bytes(text.data(), text.size());
  }

  /// @throws StreamError
  void end() {
    std::uint64_t const size = buffer_.size() - block_head;
    std::memcpy(buffer_.data() + sizeof(BlockTag), &size, sizeof size);
    chain_ = kvfreeze::detail::checksum(buffer_, chain_);
    bytes(&chain_, sizeof chain_);
    raw(buffer_);
  }

 private:
  std::ostream* out_;
  std::vector<std::byte> buffer_;
  std::uint64_t chain_ = 0;
  std::size_t written_ = 0;
};

/// A block's payload, read from its beginning to its end.
class BlockBytes {
 public:
  BlockBytes() = default;

  explicit BlockBytes(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

  /// The next bytes, valid while this is.
  /// @throws FormatError if there are fewer
  std::span<std::byte const> take(std::size_t count) {
    if (count > bytes_.size() - at_) {
      throw FormatError("restore(): a block of " + std::to_string(bytes_.size()) +
                        " bytes ends where " + std::to_string(count) + " from byte " +
                        std::to_string(at_) + " on are expected");
    }
    at_ += count;
    return {bytes_.data() + at_ - count, count};
  }

  void bytes(void* to, std::size_t count) {
    auto const from = take(count);
    if (count > 0) {
      std::memcpy(to, from.data(), count);
    }
  }

  template <BlockNumber T>
  void number(T& value) {
    bytes(&value, sizeof value);
  }

  template <BlockNumber T>
  [[nodiscard]] T number() {
    T value;
    number(value);
    return value;
  }

  [[nodiscard]] std::string text() {
    auto const chars = take(number<std::uint32_t>());
    return {reinterpret_cast<char const*>(chars.data()), chars.size()};
  }

  /// Back to the beginning.
  void rewind() noexcept { at_ = 0; }

  /// @throws FormatError if something is left
  void finish() const {
    if (at_ != bytes_.size()) {
      throw FormatError("restore(): a block has " + std::to_string(bytes_.size() - at_) +
                        " bytes more than expected");
    }
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

/// Reads blocks, in the order in which they were written.
class BlockReader {
 public:
  explicit BlockReader(std::istream& in) : in_(&in) {}

  /// Bytes outside of any block.
  /// @throws FormatError if the stream ends before
  void raw(std::span<std::byte> to) {
    in_->read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(to.size()));
    auto const got = static_cast<std::size_t>(in_->gcount());
    read_ += got;
    if (got != to.size()) {
      throw FormatError("restore(): the stream ends after " + std::to_string(read_) +
                        " bytes, in the middle of the sequence");
    }
  }

  /// @brief The next block. Memory grows as bytes arrive, whatever the block says of its size.
  /// @param most bytes that its payload can have
  /// @throws FormatError if it is another one, larger, damaged, or the stream ends
  BlockBytes next(BlockTag const& tag, std::uint64_t most) {
    std::size_t const start = read_;
    std::vector<std::byte> block(block_head);
    raw(block);
    std::uint64_t size = 0;
    std::memcpy(&size, block.data() + sizeof(BlockTag), sizeof size);
    if (std::memcmp(block.data(), tag.data(), tag.size()) != 0) {
      throw FormatError("restore(): damaged at byte " + std::to_string(start) + ": no block " +
                        std::string(tag.data(), tag.size()));
    }
    if (size > most) {
      throw FormatError("restore(): damaged at byte " + std::to_string(start) + ": block " +
                        std::string(tag.data(), tag.size()) + " claims " + std::to_string(size) +
                        " bytes, it can have " + std::to_string(most));
    }
    for (std::uint64_t left = size; left > 0;) {
      auto const piece = static_cast<std::size_t>(std::min<std::uint64_t>(left, 1U << 20));
      block.resize(block.size() + piece);
      raw({block.data() + block.size() - piece, piece});
      left -= piece;
    }
    std::uint64_t expected = 0;
    raw(std::as_writable_bytes(std::span(&expected, 1)));
    chain_ = kvfreeze::detail::checksum(block, chain_);
    if (chain_ != expected) {
      throw FormatError("restore(): damaged block " + std::string(tag.data(), tag.size()) +
                        " at byte " + std::to_string(start) + ": checksum " +
                        kvfreeze::detail::describe_hex(chain_) + ", saved with " +
                        kvfreeze::detail::describe_hex(expected));
    }
    block.erase(block.begin(), block.begin() + block_head);
    return BlockBytes(std::move(block));
  }

 private:
  std::istream* in_;
  std::uint64_t chain_ = 0;
  std::size_t read_ = 0;
};

}  // namespace kvfreeze::host
