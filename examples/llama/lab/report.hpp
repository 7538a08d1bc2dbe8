#pragma once

#include "json_object.hpp"
#include "summary.hpp"

#include <span>
#include <string>
#include <vector>

namespace llama::lab {

using Table = std::vector<std::vector<std::string>>;  // its first row is the header

/// @brief "kl, 2,048 tokens of book.txt".
std::string scope_title(Scope const& scope);

/// @brief Where the results come from: model, texts, machines, commits, dates.
Table provenance_table(std::span<JsonObject const> cells);

/// @brief Quality of every system at every size, the sizes one after the other, the best first.
Table quality_table(std::span<Point const> points);

/// @brief Right answers: a row for each system, a column for each size.
Table answer_table(std::span<Point const> points);

/// @brief Of a stress text: quality, answers and recoveries.
Table stress_table(Scope const& scope, std::span<Point const> points);

/// @brief What could not be measured, and why. Empty without a header if nothing is missing.
Table missing_table(std::span<Point const> points);

/// @brief One page that needs nothing but itself. @throws JsonError if a cell lacks a figure
std::string lab_report_html(std::span<JsonObject const> cells);

/// A picture of the page as a file of its own.
struct ReportPicture {
  std::string file;
  std::string svg;
};

/// @brief KL against memory, a picture for each text and context. @throws as lab_report_html()
std::vector<ReportPicture> lab_report_pictures(std::span<JsonObject const> cells);

/// @brief The picture's file name; empty for tasks that have none.
std::string picture_file(Scope const& scope);

/// @brief The tables of the page in Markdown, with the pictures. @throws JsonError if a cell lacks
/// a figure
std::string lab_report_markdown(std::span<JsonObject const> cells);

}  // namespace llama::lab
