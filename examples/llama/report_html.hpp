#pragma once

#include "charts.hpp"
#include "statistics.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama {

/// What the report of a generation shows.
struct HtmlReport {
  std::string title;
  std::vector<std::vector<std::string>> table;  ///< its first row is the header
  std::string prompt;
  std::string text;
  std::vector<Step> steps;
  std::size_t cap_bytes = kvfreeze::unlimited;
  FidelityMap map;
};

/// @brief A page around a body: style sheet and heading.
/// @param more_style rules behind those that all pages have
std::string html_page(std::string const& title, std::string const& body,
                      std::string_view more_style = "");

/// @brief The first SVG picture of a page's part as a file of its own, with the pages' style sheet.
/// @param more_style as html_page()
std::string standalone_svg(std::string const& part, std::string_view more_style = "");

/// @brief A table; its first row is the header.
std::string html_table(std::vector<std::vector<std::string>> const& table);

/// @brief A page that needs nothing but itself: inline SVG, no script, no network.
std::string render_html(HtmlReport const& report);

}  // namespace llama
