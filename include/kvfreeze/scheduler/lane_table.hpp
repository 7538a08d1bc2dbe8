#pragma once

#include <kvfreeze/error.hpp>
#include <kvfreeze/types.hpp>

#include <cstddef>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

namespace kvfreeze {

/// @brief A number for each lane of a model, and the small text file that keeps it: what it is and
/// the format's version, the model's shape, a line for each layer.
struct LaneTable {
  std::string kind;  ///< one word: "entropies", "shares"
  Shape shape;
  std::vector<float> values;  ///< [layers * kv_heads], by layer

  void save(std::ostream& out) const {
    out << "kvfreeze " << kind << " 1\nlayers " << shape.layers << " query_heads "
        << shape.query_heads << " kv_heads " << shape.kv_heads << " head_dim " << shape.head_dim
        << '\n';
    for (std::size_t i = 0; i < values.size(); ++i) {
      bool const ends = (i + 1) % static_cast<std::size_t>(shape.kv_heads) == 0;
      out << values[i] << (ends ? '\n' : ' ');
    }
  }

  /// @brief Reads it back.
  /// @param kind what the file must hold
  /// @param model the model's shape, which must be the file's
  /// @param most no value may be negative or above it
  /// @throws InvalidArgument if it is no such file, of another version, for another shape, cut
  /// short, too long, or has a value out of range; the message has what was found and what was
  /// wanted
  static LaneTable load(std::istream& in, std::string const& kind, Shape const& model, float most) {
    std::string first;
    std::getline(in, first);
    if (first != "kvfreeze " + kind + " 1") {
      reject(kind, "it begins with '" + first.substr(0, 40) + "'");
    }
    LaneTable table{kind, {}, {}};
    Shape& s = table.shape;
    std::string names;
    for (int* const field : {&s.layers, &s.query_heads, &s.kv_heads, &s.head_dim}) {
      std::string name;
      in >> name >> *field;
      names += name + ' ';
    }
    if (!in || names != "layers query_heads kv_heads head_dim ") {
      reject(kind, "its second line is not a shape");
    }
    if (s.layers != model.layers || s.query_heads != model.query_heads ||
        s.kv_heads != model.kv_heads || s.head_dim != model.head_dim) {
      reject(kind, "it is for " + describe(s) + ", the model has " + describe(model));
    }
    auto const lanes = static_cast<std::size_t>(s.layers) * static_cast<std::size_t>(s.kv_heads);
    for (float value = 0.0F; table.values.size() < lanes && in >> value;) {
      if (!(value >= 0.0F && value <= most)) {
        reject(kind, "lane " + std::to_string(table.values.size()) + " has " +
                         std::to_string(value) + ", outside [0, " + std::to_string(most) + "]");
      }
      table.values.push_back(value);
    }
    std::string more;
    if (table.values.size() < lanes || in >> more) {
      reject(kind, "it has " +
                       (more.empty() ? std::to_string(table.values.size())
                                     : "more than " + std::to_string(lanes)) +
                       " values for " + std::to_string(lanes) + " lanes");
    }
    return table;
  }

 private:
  [[noreturn]] static void reject(std::string const& kind, std::string const& why) {
    throw InvalidArgument("not a file of 'kvfreeze " + kind + " 1' for this model: " + why);
  }

  static std::string describe(Shape const& s) {
    return std::to_string(s.layers) + " layers, " + std::to_string(s.query_heads) +
           " query heads, " + std::to_string(s.kv_heads) + " KV heads of " +
           std::to_string(s.head_dim);
  }
};

}  // namespace kvfreeze
