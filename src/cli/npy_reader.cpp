// SPDX-License-Identifier: Apache-2.0
// Reading: magic "\x93NUMPY", version, header length, then a Python dict of exactly descr, fortran_order and
// shape.
#include <fmt/format.h>

#include <cctype>
#include <cstring>
#include <limits>
#include <string_view>

#include "exit_codes.h"
#include "npy.h"
#include "options.h"

namespace indexshare::cli {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxDims = 8;

// The few forms of a Python literal that such a header holds.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string what) : text_(text), what_(std::move(what)) {}

  void parse() {
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && descr.empty()) {
        descr = quoted();
      } else if (key == "fortran_order" && !has_order_) {
        fortran_order = boolean();
        has_order_ = true;
      } else if (key == "shape" && !has_shape_) {
        parse_shape();
        has_shape_ = true;
      } else {
        fail("has an unknown or repeated key \"" + key + "\"");
      }
      if (!accept(',') && peek() != '}') fail("is malformed");
    }
    if (peek() != '\0') fail("has text behind its dictionary");
    if (descr.empty() || !has_order_ || !has_shape_) fail("lacks descr, fortran_order or shape");
  }

  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw UsageError(what_ + ": the header " + problem);
  }

  char peek() {
    while (position_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[position_])))
      ++position_;
    return position_ < text_.size() ? text_[position_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++position_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail("is malformed");
  }
  bool accept_word(std::string_view word) {
    peek();
    if (text_.substr(position_, word.size()) != word) return false;
    position_ += word.size();
    return true;
  }
  bool boolean() {
    if (accept_word("True")) return true;
    if (!accept_word("False")) fail("is malformed");
    return false;
  }
  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail("is malformed");
    const size_t end = text_.find(quote, ++position_);
    if (end == std::string_view::npos) fail("is malformed");
    const std::string word(text_.substr(position_, end - position_));
    position_ = end + 1;
    return word;
  }
  void parse_shape() {
    expect('(');
    while (!accept(')')) {
      int64_t size = 0;
      if (!std::isdigit(static_cast<unsigned char>(peek()))) fail("has a malformed shape");
      while (std::isdigit(static_cast<unsigned char>(position_ < text_.size() ? text_[position_] : '\0'))) {
        if (size > (int64_t{1} << 48)) fail("has a dimension beyond all bounds");
        size = size * 10 + (text_[position_++] - '0');
      }
      shape.push_back(size);
      if (shape.size() > kMaxDims) fail("has too many dimensions");
      if (!accept(',') && peek() != ')') fail("has a malformed shape");
    }
  }

  std::string_view text_;
  std::string what_;
  size_t position_ = 0;
  bool has_order_ = false, has_shape_ = false;
};

// Where the data starts; the header's text comes back in `header`.
size_t locate_header(const std::string& bytes, const std::string& what, std::string_view& header) {
  if (bytes.size() < 10 || !std::string_view(bytes).starts_with(kMagic)) {
    throw UsageError(what + ": not a NumPy .npy file");
  }
  const int version = static_cast<unsigned char>(bytes[6]);
  if (version < 1 || version > 3) throw UsageError(fmt::format("{}: unknown .npy version {}", what, version));
  const size_t length_bytes = version == 1 ? 2 : 4, start = 8 + length_bytes;
  size_t length = 0;
  for (size_t i = 0; i < length_bytes && 8 + i < bytes.size(); ++i) {
    length |= static_cast<size_t>(static_cast<unsigned char>(bytes[8 + i])) << (8 * i);
  }
  if (bytes.size() < start || length > bytes.size() - start)
    throw UsageError(what + ": truncated in its header");
  header = std::string_view(bytes).substr(start, length);
  return start + length;
}

template <typename T>
void convert(std::string_view data, bool big_endian, const std::string& what, std::vector<int32_t>& values) {
  values.reserve(data.size() / sizeof(T));
  for (size_t i = 0; i < data.size(); i += sizeof(T)) {
    char bytes[sizeof(T)];
    for (size_t b = 0; b < sizeof(T); ++b) bytes[big_endian ? sizeof(T) - 1 - b : b] = data[i + b];
    T value;
    std::memcpy(&value, bytes, sizeof value);
    if (!std::in_range<int32_t>(value)) {
      throw UsageError(
          fmt::format("{}: element {} is {}, which is no 32-bit integer", what, values.size(), value));
    }
    values.push_back(static_cast<int32_t>(value));
  }
}

using Converter = void (*)(std::string_view, bool, const std::string&, std::vector<int32_t>&);

struct IntType {
  const char* code;
  size_t size;
  Converter convert;
};

constexpr IntType kIntTypes[] = {
    {"i1", 1, convert<int8_t>},   {"u1", 1, convert<uint8_t>},  {"i2", 2, convert<int16_t>},
    {"u2", 2, convert<uint16_t>}, {"i4", 4, convert<int32_t>},  {"u4", 4, convert<uint32_t>},
    {"i8", 8, convert<int64_t>},  {"u8", 8, convert<uint64_t>},
};

const IntType& find_type(const std::string& descr, const std::string& what) {
  for (const IntType& type : kIntTypes) {
    const bool order_known = std::string_view("<>|=").find(descr.front()) != std::string_view::npos;
    if (order_known && descr.substr(1) == type.code) return type;
  }
  throw UsageError(fmt::format("{}: expected integers, the file holds \"{}\"", what, descr));
}

}  // namespace

IntArray read_int_npy(const std::string& path, size_t num_dims) {
  const std::string bytes = read_file(path);
  std::string_view header_text;
  const size_t data_start = locate_header(bytes, path, header_text);
  HeaderParser header(header_text, path);
  header.parse();
  const IntType& type = find_type(header.descr, path);
  if (header.shape.size() != num_dims) {
    throw UsageError(fmt::format("{}: expected {} dimension{}, the file has {}", path, num_dims,
                                 num_dims == 1 ? "" : "s", header.shape.size()));
  }
  if (header.fortran_order && num_dims > 1)
    throw UsageError(path + ": expected C order, the file is in Fortran order");

  const std::string_view data = std::string_view(bytes).substr(data_start);
  uint64_t expected = type.size;
  for (const int64_t size : header.shape) {
    if (size != 0 && expected > std::numeric_limits<uint64_t>::max() / static_cast<uint64_t>(size)) {
      throw UsageError(path + ": the shape is beyond all bounds");
    }
    expected *= static_cast<uint64_t>(size);
  }
  if (data.size() != expected) {
    throw UsageError(
        fmt::format("{}: expected {} bytes of data, the file has {}", path, expected, data.size()));
  }
  IntArray array{header.shape, {}};
  type.convert(data, header.descr.front() == '>', path, array.values);
  return array;
}

}  // namespace indexshare::cli
