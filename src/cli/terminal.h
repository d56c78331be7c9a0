// SPDX-License-Identifier: Apache-2.0
// What the verbs print: numbers as people read them, tables, JSON. Answers go to stdout, everything else to
// stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace indexshare::cli {

using Json = nlohmann::ordered_json;  // keys stay in the order they are written in

inline constexpr int kSchemaVersion =
    1;  // of every JSON object printed; grows when a field changes its meaning

/// Writes and flushes, so that streamed text appears at once. @throws std::runtime_error where stdout is
/// full.
void print(std::string_view text);

/// One object on stdout. Invalid UTF-8 becomes U+FFFD; NaN and infinities become null.
void print_json(const Json& object);

/// "indexshare: error: ..." or "indexshare: note: ..." on stderr.
void print_error(std::string_view message);
void print_note(std::string_view message);

std::string with_commas(int64_t value);     // 1,048,576
std::string human_bytes(double bytes);      // 2.9 GB
std::string human_flops(double flops);      // 762.1 G
std::string human_seconds(double seconds);  // 1.24 s, 3 min 05 s

enum class TableStyle { plain, markdown };

/// Columns as wide as their widest cell, the first `num_left` left-aligned; the first row is the heading.
std::string table(const std::vector<std::vector<std::string>>& rows, size_t num_left = 1,
                  TableStyle style = TableStyle::plain);

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// The most memory this process has held resident, in bytes.
int64_t peak_rss_bytes();

}  // namespace indexshare::cli
