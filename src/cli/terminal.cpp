// SPDX-License-Identifier: Apache-2.0
#include "terminal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace indexshare::cli {
namespace {

// 1234567 with units {"", "k", "M"} of 1000 becomes "1.23 M": three figures whatever the size.
std::string scaled(double value, const std::array<const char*, 6>& units) {
  size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f} {}", value, units[0]);
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, units[unit]);
}

// Columns of a terminal: code points, which is exact for what the tables hold.
size_t display_width(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

// Holds other objects or arrays.
bool is_nested(const Json& value) {
  const auto is_container = [](const Json& member) { return member.is_structured(); };
  return value.is_structured() && std::any_of(value.begin(), value.end(), is_container);
}

// A line for each member, but one line for what holds numbers and words only.
void write_json(const Json& value, const std::string& indent, std::string& text) {
  if (!is_nested(value)) {
    text += value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return;
  }
  const std::string inner = indent + "  ";
  text += value.is_object() ? "{" : "[";
  const char* separator = "\n";
  for (const auto& [key, member] : value.items()) {
    text += separator + inner;
    if (value.is_object()) text += Json(key).dump(-1, ' ', false, Json::error_handler_t::replace) + ": ";
    write_json(member, inner, text);
    separator = ",\n";
  }
  text += "\n" + indent + (value.is_object() ? "}" : "]");
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw std::runtime_error(fmt::format("cannot write to standard output: {}", std::strerror(errno)));
  }
}

void print_json(const Json& object) {
  std::string text;
  write_json(object, "", text);
  print(text + "\n");
}

void print_error(std::string_view message) { fmt::print(stderr, "indexshare: error: {}\n", message); }
void print_note(std::string_view message) { fmt::print(stderr, "indexshare: note: {}\n", message); }

std::string with_commas(int64_t value) {
  std::string digits = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) {
    i -= 3;
    digits.insert(i, ",");
  }
  return digits;
}

std::string human_bytes(double bytes) { return scaled(bytes, {"B", "kB", "MB", "GB", "TB", "PB"}); }
std::string human_flops(double flops) { return scaled(flops, {"", "k", "M", "G", "T", "P"}); }

std::string human_seconds(double seconds) {
  if (seconds < 100) return fmt::format("{:.2f} s", seconds);
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  return fmt::format("{} min {:02} s", whole / 60, whole % 60);
}

std::string table(const std::vector<std::vector<std::string>>& rows, size_t num_left, TableStyle style) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  const bool markdown = style == TableStyle::markdown;
  const auto join = [&](const std::vector<std::string>& cells) {
    std::string line = markdown ? "| " : "";
    for (size_t i = 0; i < cells.size(); ++i) line += (i == 0 ? "" : markdown ? " | " : "  ") + cells[i];
    if (markdown) return line + " |\n";
    line.erase(line.find_last_not_of(' ') + 1);
    return line + "\n";
  };
  std::string text;
  for (const auto& row : rows) {
    std::vector<std::string> cells, rule;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap(widths[i] - display_width(row[i]), ' ');
      cells.push_back(i < num_left ? row[i] + gap : gap + row[i]);
      rule.push_back(std::string(widths[i] - 1, '-') + (i < num_left ? "-" : ":"));
    }
    text += join(cells);
    if (markdown && &row == &rows.front()) text += join(rule);
  }
  return text;
}

int64_t peak_rss_bytes() {
  // Not getrusage(): its figure survives exec() and so would start with the parent's.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

}  // namespace indexshare::cli
