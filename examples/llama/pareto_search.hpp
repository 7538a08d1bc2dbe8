#pragma once

#include "statistics.hpp"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>
#include <vector>

namespace llama {

/// @brief Local search for the Pareto front on a grid: looks at the neighbours of the points that
/// nothing beats so far, until they have none that were not looked at.
///
/// A point is an index on each axis; neighbours differ by one on one axis.
class ParetoSearch {
 public:
  using Point = std::vector<std::size_t>;

  /// @param sizes of the axes, each >= 1
  explicit ParetoSearch(std::vector<std::size_t> sizes) : sizes_(std::move(sizes)) {
    Point middle;
    for (std::size_t const size : sizes_) {
      middle.push_back(size / 2);
    }
    ask(middle);
  }

  /// @brief All points, for a search that leaves nothing out.
  void ask_all() {
    Point point(sizes_.size(), 0);
    while (true) {
      ask(point);
      std::size_t axis = 0;
      while (axis < point.size() && ++point[axis] == sizes_[axis]) {
        point[axis++] = 0;
      }
      if (axis == point.size()) {
        return;
      }
    }
  }

  /// @brief Up to so many points to look at next; none when the search is at its end.
  [[nodiscard]] std::vector<Point> next(std::size_t most) {
    if (open_.empty()) {
      for (Point const& point : front()) {
        ask_neighbours(point);
      }
    }
    std::vector<Point> taken(
        open_.begin(), open_.begin() + static_cast<std::ptrdiff_t>(std::min(most, open_.size())));
    open_.erase(open_.begin(), open_.begin() + static_cast<std::ptrdiff_t>(taken.size()));
    return taken;
  }

  /// @brief What a point costs. Points that cannot be are not told about.
  void tell(Point const& point, Cost cost) { costs_.emplace_back(point, cost); }

  /// Points that were asked for so far, the middle one first.
  [[nodiscard]] std::size_t asked() const { return asked_.size(); }

  /// The points that nothing beats so far, the cheapest in x first.
  [[nodiscard]] std::vector<Point> front() const {
    std::vector<Cost> costs;
    for (auto const& [point, cost] : costs_) {
      costs.push_back(cost);
    }
    std::vector<Point> points;
    for (std::size_t const i : pareto_front(costs)) {
      points.push_back(costs_[i].first);
    }
    return points;
  }

 private:
  void ask(Point const& point) {
    if (asked_.insert(point).second) {
      open_.push_back(point);
    }
  }

  void ask_neighbours(Point const& point) {
    for (std::size_t axis = 0; axis < sizes_.size(); ++axis) {
      Point other = point;
      if (point[axis] > 0) {
        other[axis] = point[axis] - 1;
        ask(other);
      }
      if (point[axis] + 1 < sizes_[axis]) {
        other[axis] = point[axis] + 1;
        ask(other);
      }
    }
  }

  std::vector<std::size_t> sizes_;
  std::set<Point> asked_;
  std::vector<Point> open_;  // asked for, not handed out yet
  std::vector<std::pair<Point, Cost>> costs_;
};

}  // namespace llama
