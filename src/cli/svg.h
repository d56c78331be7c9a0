// SPDX-License-Identifier: Apache-2.0
// Figures of the HTML report as SVG text. Colours are CSS variables and classes of the page, so that one
// figure serves light and dark; every mark tells its number on hover.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace indexshare::cli {

std::string escape_html(std::string_view text);

/// Cells [rows][columns] of shares from 0 to 1, darker where larger; blank where there is no value.
struct HeatMap {
  std::vector<std::string> rows, columns;  // labels
  std::vector<std::vector<std::optional<double>>> cells;
  std::function<std::string(size_t row, size_t column)> hover;
  std::string row_title, column_title;
  std::vector<size_t> outlined_columns;  // of each row: a frame round this cell; empty: none
};
std::string draw(const HeatMap& map);

/// Shares from 0 to 1 over named columns, a series a colour. Missing values break the line.
struct LineChart {
  struct Series {
    std::string name;   // in the legend
    std::string style;  // CSS class: s1, s2, s3, s4
    std::vector<std::optional<double>> values;
  };
  std::vector<std::string> columns;
  std::vector<Series> series;
  std::string column_title;
};
std::string draw(const LineChart& chart);

}  // namespace indexshare::cli
