// SPDX-License-Identifier: Apache-2.0
// Strict JSON for files nobody vouches for: one parser with limits, and getters whose errors name file and
// field. Rejected: BOM, invalid UTF-8, deep nesting, duplicate keys, numbers out of range, trailing bytes,
// NaN, comments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace indexshare {

using Json = nlohmann::ordered_json;  // keeps the order of the document, which chat templates print

struct JsonLimits {
  size_t max_bytes = 200'000'000;
  int max_depth = 64;
  size_t max_values =
      5'000'000;  // scalars, arrays and objects together: bounds the memory a small file can ask for
};

/// Parses one JSON document. `what` names it in messages, usually the file's name.
/// Throws Error{unsupported}.
Json parse_json(std::string_view text, const std::string& what, const JsonLimits& limits = {});

/// Reads and parses a regular file. Throws Error{not_found} where there is none, Error{unsupported}
/// otherwise.
Json read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

/// Reads a whole regular file; the size is checked before anything is allocated, and a git-lfs pointer is
/// refused. Throws like read_json_file.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

/// "the string \"4096\"", "an array of 3", "null": a value as a message shows it, at most a few words long.
std::string describe_json(const Json& value);

/// A view of one JSON object with typed access. Absent and null are the same thing to the optional getters.
/// Every error is Error{unsupported} with "<what>: <path>: expected ..., found ...". The Json must outlive
/// the view.
class JsonObject {
 public:
  static constexpr int64_t kMaxInt = std::numeric_limits<int64_t>::max();
  static constexpr double kMaxDouble = std::numeric_limits<double>::max();

  /// Throws where `value` is not an object. `path` is the place of `value` inside the document, "" for the
  /// root.
  JsonObject(const Json& value, std::string what, std::string path = "");

  const Json& json() const { return *value_; }
  const std::string& what() const { return what_; }
  /// "rope_scaling.factor" for key "factor" of the object at "rope_scaling".
  std::string path_of(std::string_view key) const;

  bool has(std::string_view key) const { return find(key) != nullptr; }  // present and not null
  const Json* find(std::string_view key) const;                          // nullptr where absent or null

  /// Adds every key that is asked for from here on, there or not, to `keys`.
  void record(std::set<std::string, std::less<>>& keys) { asked_ = &keys; }

  /// Integers in [min, max]. A float (even 8.0) or a string is an error.
  int64_t required_int(std::string_view key, int64_t min = 0, int64_t max = kMaxInt) const;
  std::optional<int64_t> optional_int(std::string_view key, int64_t min = 0, int64_t max = kMaxInt) const;
  /// Any finite number in [min, max]; integers are welcome.
  double required_double(std::string_view key, double min = -kMaxDouble, double max = kMaxDouble) const;
  std::optional<double> optional_double(std::string_view key, double min = -kMaxDouble,
                                        double max = kMaxDouble) const;
  bool required_bool(std::string_view key) const;
  std::optional<bool> optional_bool(std::string_view key) const;
  std::string required_string(std::string_view key) const;
  std::optional<std::string> optional_string(std::string_view key) const;
  JsonObject required_object(std::string_view key) const;
  std::optional<JsonObject> optional_object(std::string_view key) const;
  const Json& required_array(std::string_view key) const;
  const Json* optional_array(std::string_view key) const;  // nullptr where absent or null
  std::vector<int64_t> required_int_list(std::string_view key, int64_t min = 0, int64_t max = kMaxInt) const;
  std::vector<std::string> required_string_list(std::string_view key) const;

  /// Throws "<what>: <path of key>: expected <expected>, found <value>".
  [[noreturn]] void reject(std::string_view key, std::string_view expected) const;

 private:
  const Json& at(std::string_view key, std::string_view expected) const;

  const Json* value_;
  std::string what_;
  std::string path_;
  std::set<std::string, std::less<>>* asked_ = nullptr;
};

}  // namespace indexshare
