// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <fstream>
#include <unordered_set>

#include "base/check.h"
#include "base/git_lfs.h"

namespace indexshare {

namespace {

// At most `max_bytes` of a text for a message: control and non-ASCII bytes become \xNN, the rest is cut.
std::string shown(std::string_view text, size_t max_bytes = 60) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == max_bytes) return out + "...";
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c >= 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

// Builds the document value by value. One Frame per open array or object carries what duplicate detection and
// the path of a message need.
class Builder {
 public:
  Builder(const std::string& what, const JsonLimits& limits) : what_(what), limits_(limits) {}

  bool null() { return add(Json(nullptr)); }
  bool boolean(bool value) { return add(Json(value)); }
  bool number_integer(Json::number_integer_t value) { return add(Json(value)); }
  bool number_unsigned(Json::number_unsigned_t value) { return add(Json(value)); }
  bool number_float(Json::number_float_t value, const std::string&) { return add(Json(value)); }
  bool string(std::string& value) { return add(Json(std::move(value))); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    Frame& frame = frames_.back();
    if (!frame.names.insert(name).second) {
      frame.key.clear();  // the place is the object, not its previous member
      fail(ErrorCode::unsupported, "{}: the key \"{}\" appears twice{}", what_, shown(name), where());
    }
    frame.key = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string& last_token, const nlohmann::detail::exception& error) {
    std::string reason = error.what();
    if (const size_t dash = reason.find(" - "); dash != std::string::npos) reason = reason.substr(dash + 3);
    if (const size_t bracket = reason.find("] "); reason.starts_with("[") && bracket != std::string::npos)
      reason = reason.substr(bracket + 2);
    if (const size_t last = reason.find("; last read"); last != std::string::npos) reason.resize(last);
    if (const size_t parsing = reason.find("number overflow parsing"); parsing != std::string::npos)
      reason = "number out of range";
    fail(ErrorCode::unsupported, "{}: not valid JSON at byte {}{}: {} (read \"{}\")", what_, position,
         where(), shown(reason, 200),
         shown(last_token.size() > 60 ? last_token.substr(last_token.size() - 60) : last_token));
  }

  Json take() { return std::move(root_); }

 private:
  struct Frame {
    Json* value;
    std::string key;  // the member being read
    std::unordered_set<std::string> names;
  };

  std::string where() const {
    std::string path;
    for (const Frame& frame : frames_) {
      if (frame.value
              ->is_array()) {  // its last element is still open, unless it is the innermost frame itself
        path += fmt::format("[{}]", frame.value->size() - (&frame == &frames_.back() ? 0 : 1));
      } else if (!frame.key.empty()) {
        path += (path.empty() ? "" : ".") + shown(frame.key);
      }
    }
    return path.empty() ? "" : " in " + shown(path, 200);
  }

  Json* place(Json value) {
    if (++num_values_ > limits_.max_values)
      fail(ErrorCode::unsupported, "{}: expected at most {} JSON values, found more", what_,
           limits_.max_values);
    if (frames_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Frame& frame = frames_.back();
    if (frame.value->is_array()) {
      auto& array = frame.value->get_ref<Json::array_t&>();
      return &array.emplace_back(std::move(value));
    }
    // ordered_map's own insertion searches linearly; names has already ruled out a duplicate.
    std::vector<std::pair<const std::string, Json>>& members = frame.value->get_ref<Json::object_t&>();
    return &members.emplace_back(frame.key, std::move(value)).second;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (static_cast<int>(frames_.size()) >= limits_.max_depth)
      fail(ErrorCode::unsupported, "{}: expected JSON nested at most {} deep, found deeper{}", what_,
           limits_.max_depth, where());
    Json* placed = place(std::move(value));
    frames_.push_back({placed, {}, {}});
    return true;
  }

  bool close() {
    frames_.pop_back();
    return true;
  }

  const std::string& what_;
  const JsonLimits& limits_;
  Json root_;
  std::vector<Frame> frames_;
  size_t num_values_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& what, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    fail(ErrorCode::unsupported, "{}: expected at most {} bytes of JSON, found {}", what, limits.max_bytes,
         text.size());
  if (text.empty()) fail(ErrorCode::unsupported, "{}: expected JSON, found an empty file", what);
  if (text.starts_with("\xef\xbb\xbf"))
    fail(ErrorCode::unsupported, "{}: expected JSON in plain UTF-8, found a byte order mark at its start",
         what);
  if (const size_t nul = text.find('\0'); nul != text.npos)  // nlohmann would take it for the end of the text
    fail(ErrorCode::unsupported, "{}: not valid JSON at byte {}: found a NUL byte", what, nul + 1);
  Builder builder(what, limits);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) fail(ErrorCode::not_found, "{}: no such file", path.string());
  if (!std::filesystem::is_regular_file(status))
    fail(ErrorCode::unsupported, "{}: expected a regular file, found a directory or a device", path.string());
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) fail(ErrorCode::not_found, "{}: cannot be read: {}", path.string(), error.message());
  if (size > max_bytes)
    fail(ErrorCode::unsupported, "{}: expected at most {} bytes, found {}", path.string(), max_bytes, size);
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<size_t>(size), '\0');
  if (!file || !file.read(text.data(), static_cast<std::streamsize>(text.size())))
    fail(ErrorCode::not_found, "{}: cannot be read", path.string());
  refuse_lfs_pointer(text, path.string());
  return text;
}

Json read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_text_file(path, limits.max_bytes), path.string(), limits);
}

std::string describe_json(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case Json::value_t::string:
      return fmt::format("the string \"{}\"", shown(value.get_ref<const std::string&>()));
    case Json::value_t::array:
      return fmt::format("an array of {}", value.size());
    case Json::value_t::object:
      return "an object";
    case Json::value_t::discarded:
    case Json::value_t::binary:
      return "no JSON";
    default:
      return value.dump();
  }
}

JsonObject::JsonObject(const Json& value, std::string what, std::string path)
    : value_(&value), what_(std::move(what)), path_(std::move(path)) {
  if (!value.is_object())
    fail(ErrorCode::unsupported, "{}: {}expected a JSON object, found {}", what_,
         path_.empty() ? "" : path_ + ": ", describe_json(value));
}

std::string JsonObject::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

const Json* JsonObject::find(std::string_view key) const {
  if (asked_) asked_->emplace(key);
  for (const auto& [name, value] : value_->get_ref<const Json::object_t&>())
    if (name == key) return value.is_null() ? nullptr : &value;
  return nullptr;
}

void JsonObject::reject(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  fail(ErrorCode::unsupported, "{}: {}: expected {}, found {}", what_, path_of(key), expected,
       value ? describe_json(*value) : "nothing");
}

const Json& JsonObject::at(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  if (!value) reject(key, expected);
  return *value;
}

int64_t JsonObject::required_int(std::string_view key, int64_t min, int64_t max) const {
  const std::string expected = max == kMaxInt ? fmt::format("an integer of at least {}", min)
                                              : fmt::format("an integer from {} to {}", min, max);
  const Json& value = at(key, expected);
  if (!value.is_number_integer()) reject(key, expected);
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(kMaxInt))
    reject(key, expected);
  const auto number = value.get<int64_t>();
  if (number < min || number > max) reject(key, expected);
  return number;
}

std::optional<int64_t> JsonObject::optional_int(std::string_view key, int64_t min, int64_t max) const {
  return has(key) ? std::optional(required_int(key, min, max)) : std::nullopt;
}

double JsonObject::required_double(std::string_view key, double min, double max) const {
  std::string expected = "a number";
  if (min != -kMaxDouble) expected += fmt::format(" of at least {}", min);
  if (max != kMaxDouble) expected += fmt::format("{} at most {}", min != -kMaxDouble ? " and" : " of", max);
  const Json& value = at(key, expected);
  if (!value.is_number()) reject(key, expected);
  const auto number = value.get<double>();
  if (!(number >= min && number <= max)) reject(key, expected);
  return number;
}

std::optional<double> JsonObject::optional_double(std::string_view key, double min, double max) const {
  return has(key) ? std::optional(required_double(key, min, max)) : std::nullopt;
}

bool JsonObject::required_bool(std::string_view key) const {
  const Json& value = at(key, "true or false");
  if (!value.is_boolean()) reject(key, "true or false");
  return value.get<bool>();
}

std::optional<bool> JsonObject::optional_bool(std::string_view key) const {
  return has(key) ? std::optional(required_bool(key)) : std::nullopt;
}

std::string JsonObject::required_string(std::string_view key) const {
  const Json& value = at(key, "a string");
  if (!value.is_string()) reject(key, "a string");
  return value.get<std::string>();
}

std::optional<std::string> JsonObject::optional_string(std::string_view key) const {
  return has(key) ? std::optional(required_string(key)) : std::nullopt;
}

JsonObject JsonObject::required_object(std::string_view key) const {
  const Json& value = at(key, "an object");
  if (!value.is_object()) reject(key, "an object");
  return JsonObject(value, what_, path_of(key));
}

std::optional<JsonObject> JsonObject::optional_object(std::string_view key) const {
  return has(key) ? std::optional(required_object(key)) : std::nullopt;
}

const Json& JsonObject::required_array(std::string_view key) const {
  const Json& value = at(key, "an array");
  if (!value.is_array()) reject(key, "an array");
  return value;
}

const Json* JsonObject::optional_array(std::string_view key) const {
  return has(key) ? &required_array(key) : nullptr;
}

std::vector<int64_t> JsonObject::required_int_list(std::string_view key, int64_t min, int64_t max) const {
  std::vector<int64_t> numbers;
  for (const Json& value : required_array(key)) {
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(kMaxInt));
    if (!fits || value.get<int64_t>() < min || value.get<int64_t>() > max)
      fail(ErrorCode::unsupported, "{}: {}[{}]: expected an integer from {} to {}, found {}", what_,
           path_of(key), numbers.size(), min, max, describe_json(value));
    numbers.push_back(value.get<int64_t>());
  }
  return numbers;
}

std::vector<std::string> JsonObject::required_string_list(std::string_view key) const {
  std::vector<std::string> strings;
  for (const Json& value : required_array(key)) {
    if (!value.is_string())
      fail(ErrorCode::unsupported, "{}: {}[{}]: expected a string, found {}", what_, path_of(key),
           strings.size(), describe_json(value));
    strings.push_back(value.get<std::string>());
  }
  return strings;
}

}  // namespace indexshare
