#include "report.hpp"

namespace llama::lab {

namespace {

/// A cell's text must not end its column.
std::string escaped(std::string const& text) {
  std::string result;
  for (char const c : text) {
    result += c == '|' ? "\\|" : std::string(1, c == '\n' ? ' ' : c);
  }
  return result;
}

std::string markdown(Table const& table) {
  std::string text;
  for (std::size_t i = 0; i < table.size(); ++i) {
    for (std::string const& cell : table[i]) {
      text += "| " + escaped(cell) + " ";
    }
    text += "|\n";
    if (i == 0) {
      for (std::size_t column = 0; column < table[0].size(); ++column) {
        text += column == 0 ? "|---" : "|---:";
      }
      text += "|\n";
    }
  }
  return text;
}

Table table_of(Scope const& scope, std::span<Point const> points) {
  if (scope.task == "kl") {
    return quality_table(points);
  }
  return scope.task == "stress" ? stress_table(scope, points) : answer_table(points);
}

}  // namespace

std::string lab_report_markdown(std::span<JsonObject const> cells) {
  std::string text = "# Results\n\n" + markdown(provenance_table(cells));
  for (Scope const& scope : find_scopes(cells)) {
    std::vector<Point> const points = find_points(cells, scope);
    text += "\n## " + scope_title(scope) + "\n\n";
    std::string const picture = picture_file(scope);
    if (!picture.empty()) {
      text += "![KL against resident bytes, a curve for each system](" + picture + ")\n\n";
    }
    text += markdown(table_of(scope, points));
    Table const missing = missing_table(points);
    if (!missing.empty()) {
      text += "\nNot measured:\n\n" + markdown(missing);
    }
  }
  return text;
}

}  // namespace llama::lab
