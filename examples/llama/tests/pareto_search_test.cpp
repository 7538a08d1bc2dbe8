#include "pareto_search.hpp"

#include <catch2/catch.hpp>

#include <set>
#include <vector>

using namespace llama;

namespace {

/// A trade: the first knob saves x and costs y, the second is best in the middle.
Cost cost_of(ParetoSearch::Point const& point) {
  auto const a = static_cast<double>(point[0]);
  auto const b = static_cast<double>(point[1]) - 2.0;
  return {10.0 - a + b * b, 1.0 + a * a + b * b};
}

}  // namespace

TEST_CASE("the search walks along the front and leaves the rest alone") {
  ParetoSearch search({8, 5});
  std::set<ParetoSearch::Point> seen;
  while (true) {
    auto const points = search.next(3);
    if (points.empty()) {
      break;
    }
    CHECK(points.size() <= 3);
    for (auto const& point : points) {
      CHECK(seen.insert(point).second);  // each once
      search.tell(point, cost_of(point));
    }
  }
  auto const front = search.front();
  REQUIRE(front.size() == 8);
  for (std::size_t i = 0; i < front.size(); ++i) {
    CHECK(front[i] == ParetoSearch::Point{7 - i, 2});
  }
  CHECK(seen.size() < 40);
}

TEST_CASE("a grid is walked as a whole") {
  ParetoSearch search({3, 2});
  search.ask_all();
  CHECK(search.next(100).size() == 6);
  CHECK(search.next(100).empty());
}

TEST_CASE("points that cannot be end no search") {
  ParetoSearch search({3});
  CHECK(search.next(9) == std::vector<ParetoSearch::Point>{{1}});
  CHECK(search.next(9).empty());  // nothing was told, so there is no front
}
