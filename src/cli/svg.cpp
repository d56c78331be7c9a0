// SPDX-License-Identifier: Apache-2.0
#include "svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace indexshare::cli {
namespace {

constexpr double kMaxCell = 46, kMinCell = 9, kMapWidth = 660;
constexpr double kNumbersFrom = 34;  // a cell this wide has room for its number
constexpr double kLabelsFrom = 13;   // and this wide for its label below

std::string text_at(double x, double y, std::string_view anchor, std::string_view text,
                    std::string_view style = "label") {
  return fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", style, x,
                     y, anchor, escape_html(text));
}

std::string open_svg(double width, double height, std::string_view label) {
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" style=\"max-width:{:.0f}px\" role=\"img\" aria-label=\"{}\">\n",
      width, height, width, escape_html(label));
}

// Every how many columns a label fits.
size_t label_step(double cell) { return cell >= kLabelsFrom + 8 ? 1 : cell >= kLabelsFrom ? 2 : 5; }

std::string cell_svg(const HeatMap& map, size_t row, size_t column, double x, double y, double size) {
  const std::optional<double>& value = map.cells[row][column];
  if (!value) return "";
  const bool outlined = row < map.outlined_columns.size() && map.outlined_columns[row] == column;
  // The first tenths of the scale would be invisible on the page's ground.
  const double strength = 0.06 + 0.94 * std::clamp(*value, 0.0, 1.0);
  std::string svg = fmt::format("<g><title>{}</title>", escape_html(map.hover(row, column)));
  svg += fmt::format(
      "<rect class=\"cell{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
      "fill-opacity=\"{:.3f}\"/>",
      outlined ? " source" : "", x + 0.5, y + 0.5, size - 1, size - 1, strength);
  if (size >= kNumbersFrom) {
    svg +=
        fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.0f}</text>",
                    *value > 0.55 ? "number strong" : "number", x + size / 2, y + size / 2 + 4, 100 * *value);
  }
  return svg + "</g>\n";
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string draw(const HeatMap& map) {
  size_t longest = 0;
  for (const std::string& label : map.rows) longest = std::max(longest, label.size());
  const double left = 26 + 7.0 * static_cast<double>(longest), top = 8;
  const double cell =
      std::clamp((kMapWidth - left) / static_cast<double>(map.columns.size()), kMinCell, kMaxCell);
  const double width = left + cell * static_cast<double>(map.columns.size()) + 8,
               bottom = top + cell * static_cast<double>(map.rows.size()), height = bottom + 40;
  std::string svg = open_svg(width, height, map.column_title + " by " + map.row_title);
  const size_t step = label_step(cell);
  for (size_t row = 0; row < map.rows.size(); ++row) {
    const double y = top + cell * static_cast<double>(row);
    if (row % step == 0) svg += text_at(left - 6, y + cell / 2 + 4, "end", map.rows[row]);
    for (size_t column = 0; column < map.columns.size(); ++column)
      svg += cell_svg(map, row, column, left + cell * static_cast<double>(column), y, cell);
  }
  for (size_t column = 0; column < map.columns.size(); column += step)
    svg += text_at(left + cell * (static_cast<double>(column) + 0.5), bottom + 15, "middle",
                   map.columns[column]);
  svg += text_at((left + width - 8) / 2, bottom + 33, "middle", map.column_title, "axis");
  if (!map.row_title.empty())
    svg += fmt::format(
        "<text class=\"axis\" transform=\"translate(12 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}"
        "</text>\n",
        (top + bottom) / 2, escape_html(map.row_title));
  return svg + "</svg>\n";
}

namespace {

constexpr double kChartLeft = 44, kChartTop = 10, kChartHeight = 220, kChartWidth = 660;

struct ChartScale {
  double step, low;  // pixels a column; the share at the bottom

  double x(size_t column) const { return kChartLeft + step * (static_cast<double>(column) + 0.5); }
  double y(double share) const { return kChartTop + kChartHeight * (1 - (share - low) / (1 - low)); }
};

// The axis begins at the tenth below the smallest value, so that differences near 1 can be seen.
double lowest_tenth(const LineChart& chart) {
  double low = 1;
  for (const auto& series : chart.series)
    for (const auto& value : series.values) low = std::min(low, value.value_or(1));
  return std::clamp(std::floor(low * 10 - 0.2) / 10, 0.0, 0.8);
}

std::string gridlines(const ChartScale& scale) {
  std::string svg;
  const double right = kChartWidth - 10;
  const double tick = scale.low < 0.45 ? 0.2 : 0.1;
  for (double share = 1; share >= scale.low - 1e-9; share -= tick) {
    svg += fmt::format("<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>\n",
                       kChartLeft, right, scale.y(share));
    svg += text_at(kChartLeft - 6, scale.y(share) + 4, "end", fmt::format("{:.0f} %", 100 * share));
  }
  return svg;
}

std::string line_of(const LineChart::Series& series, const LineChart& chart, const ChartScale& scale) {
  std::string path, marks;
  bool drawing = false;
  for (size_t i = 0; i < series.values.size(); ++i) {
    if (!series.values[i]) {
      drawing = false;
      continue;
    }
    const double x = scale.x(i), y = scale.y(*series.values[i]);
    path += fmt::format("{}{:.1f} {:.1f}", drawing ? "L" : "M", x, y);
    drawing = true;
    marks += fmt::format(
        "<circle class=\"mark {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"><title>{} {}, {}: {:.1f} %"
        "</title></circle>\n",
        series.style, x, y, escape_html(chart.column_title), escape_html(chart.columns[i]),
        escape_html(series.name), 100 * *series.values[i]);
  }
  return fmt::format("<path class=\"line {}\" d=\"{}\"/>\n", series.style, path) + marks;
}

}  // namespace

std::string draw(const LineChart& chart) {
  const ChartScale scale{(kChartWidth - 10 - kChartLeft) / static_cast<double>(chart.columns.size()),
                         lowest_tenth(chart)};
  std::string svg =
      open_svg(kChartWidth, kChartTop + kChartHeight + 42, chart.column_title) + gridlines(scale);
  const size_t step = label_step(scale.step);
  for (size_t i = 0; i < chart.columns.size(); i += step)
    svg += text_at(scale.x(i), kChartTop + kChartHeight + 17, "middle", chart.columns[i]);
  svg += text_at(kChartLeft + (kChartWidth - kChartLeft) / 2, kChartTop + kChartHeight + 36, "middle",
                 chart.column_title, "axis");
  for (const auto& series : chart.series) svg += line_of(series, chart, scale);
  svg += "</svg>\n<p class=\"legend\">";
  for (const auto& series : chart.series)
    svg += fmt::format("<span class=\"key {}\"></span>{} ", series.style, escape_html(series.name));
  return svg + "</p>\n";
}

}  // namespace indexshare::cli
