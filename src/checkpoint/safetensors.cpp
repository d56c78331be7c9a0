// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <tuple>

#include "base/check.h"
#include "base/git_lfs.h"
#include "base/json.h"

namespace indexshare {

namespace {

constexpr size_t kMaxRank = 8;
constexpr size_t kMaxNameBytes = 512;
// A tensor takes about ten values, so this is room for 200 thousand of them in one file.
constexpr JsonLimits kHeaderLimits = {
    .max_bytes = kMaxSafetensorsHeaderBytes, .max_depth = 3, .max_values = 2'000'000};

std::optional<DType> parse_dtype(const std::string& name) {
  if (name == "F32") return DType::f32;
  if (name == "F16") return DType::f16;
  if (name == "BF16") return DType::bf16;
  if (name == "F8_E4M3") return DType::f8_e4m3;
  if (name == "I32") return DType::i32;
  if (name == "I64") return DType::i64;
  if (name == "I8") return DType::i8;
  if (name == "U8" || name == "BOOL") return DType::u8;
  return std::nullopt;
}

void check_name(const std::string& name, const std::string& what) {
  const bool printable = std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!printable || name.empty() || name.size() > kMaxNameBytes ||
      name.find_first_of("/\\") != std::string::npos || name.find("..") != std::string::npos)
    fail(ErrorCode::unsupported,
         "{}: expected tensor names of 1 to {} printable ASCII characters without slashes and \"..\", found "
         "{}",
         what, kMaxNameBytes, quoted_name(name));
}

void check_metadata(const Json& metadata, const std::string& what) {
  const JsonObject view(metadata, what, "__metadata__");
  for (const auto& [key, value] : metadata.items())
    if (!value.is_string())
      fail(ErrorCode::unsupported, "{}: __metadata__: expected strings, found {} for {}", what,
           describe_json(value), quoted_name(key));
}

std::vector<int64_t> parse_shape(const JsonObject& entry, const std::string& place) {
  const Json& dims = entry.required_array("shape");
  if (dims.size() > kMaxRank)
    fail(ErrorCode::unsupported, "{}: shape: expected at most {} dimensions, found {}", place, kMaxRank,
         dims.size());
  std::vector<int64_t> shape = entry.required_int_list("shape");
  // The product must fit whichever order it is taken in, zeros left out.
  int64_t product = 1;
  for (const int64_t dim : shape)
    if (dim != 0 && __builtin_mul_overflow(product, dim, &product))
      fail(ErrorCode::unsupported, "{}: shape: expected fewer than 2^63 elements, found more", place);
  return shape;
}

struct Entry {
  TensorView tensor;
  int64_t begin, end;  // bytes from the end of the header
};

Entry parse_entry(const std::string& name, const Json& value, const std::string& what, int64_t data_bytes) {
  check_name(name, what);
  const std::string place = fmt::format("{}: {}", what, quoted_name(name));
  const JsonObject json(value, place);
  for (const auto& [key, unused] : value.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      fail(ErrorCode::unsupported, "{}: expected only dtype, shape and data_offsets, found {}", place,
           quoted_name(key));
  Entry entry;
  entry.tensor.name = name;
  const auto dtype = parse_dtype(json.required_string("dtype"));
  if (!dtype)
    json.reject("dtype", "F32, F16, BF16 or F8_E4M3 (or I32, I64, U8, BOOL, which are not weights)");
  entry.tensor.dtype = *dtype;
  entry.tensor.shape = parse_shape(json, place);
  const std::vector<int64_t> offsets = json.required_int_list("data_offsets");
  if (offsets.size() != 2) json.reject("data_offsets", "[begin, end]");
  std::tie(entry.begin, entry.end) = std::tie(offsets[0], offsets[1]);
  if (entry.begin > entry.end || entry.end > data_bytes)
    fail(ErrorCode::unsupported,
         "{}: data_offsets: expected begin <= end <= {} (bytes of data), found [{}, {}]", place, data_bytes,
         entry.begin, entry.end);
  int64_t bytes = 0;
  if (__builtin_mul_overflow(entry.tensor.num_elements(), static_cast<int64_t>(dtype_bytes(*dtype)),
                             &bytes) ||
      bytes != entry.end - entry.begin)
    fail(ErrorCode::unsupported, "{}: data_offsets: expected {} bytes ({} elements of {}), found {}", place,
         fmt::format("{} x {}", entry.tensor.num_elements(), dtype_bytes(*dtype)),
         entry.tensor.num_elements(), dtype_name(*dtype), entry.end - entry.begin);
  return entry;
}

// The header's text, with the trailing spaces that pad it.
std::string_view header_text(const std::byte* data, size_t size, const std::string& what) {
  refuse_lfs_pointer({reinterpret_cast<const char*>(data), size}, what);
  uint64_t length = 0;
  if (size < sizeof(length))
    fail(ErrorCode::unsupported, "{}: expected a safetensors file of at least 8 bytes, found {}", what, size);
  for (size_t i = 0; i < sizeof(length); ++i) length |= std::to_integer<uint64_t>(data[i]) << (8 * i);
  if (length > kMaxSafetensorsHeaderBytes)
    fail(ErrorCode::unsupported, "{}: expected a header of at most {} bytes, found {}", what,
         kMaxSafetensorsHeaderBytes, length);
  if (length > size - sizeof(length))
    fail(ErrorCode::unsupported, "{}: expected a header of {} bytes, found a file of {}", what, length, size);
  const std::string_view text(reinterpret_cast<const char*>(data) + sizeof(length),
                              static_cast<size_t>(length));
  if (!text.starts_with('{'))
    fail(ErrorCode::unsupported, "{}: expected a header that starts with '{{', found {}", what,
         quoted_name(text.substr(0, 1)));
  return text;
}

}  // namespace

const char* safetensors_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::f8_e4m3:
      return "F8_E4M3";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::i8:
      return "I8";
    case DType::u8:
      return "U8";
  }
  return "";
}

bool is_foreign_format(const std::filesystem::path& file) {
  constexpr const char* kExtensions[] = {".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".onnx"};
  return std::ranges::any_of(kExtensions, [&](const char* known) { return file.extension() == known; });
}

void refuse_foreign_format(const std::filesystem::path& file) {
  if (is_foreign_format(file))
    fail(ErrorCode::unsupported,
         "{}: expected safetensors weights, found {} (convert the model with save_pretrained)", file.string(),
         file.extension().string());
}

std::string quoted_name(std::string_view name) {
  std::string text = "\"";
  for (const char c : name.substr(0, 60)) {
    if (c >= 0x20 && c < 0x7f) {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text + (name.size() > 60 ? fmt::format("...\" ({} bytes)", name.size()) : "\"");
}

std::vector<TensorView> parse_safetensors(const std::byte* data, size_t size, const std::string& what) {
  const std::string_view text = header_text(data, size, what);
  const std::byte* first = data + sizeof(uint64_t) + text.size();
  const auto data_bytes = static_cast<int64_t>(size - sizeof(uint64_t) - text.size());
  const Json header = parse_json(text, what, kHeaderLimits);

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.get_ref<const Json::object_t&>()) {
    if (name == "__metadata__") {
      check_metadata(value, what);
    } else {
      entries.push_back(parse_entry(name, value, what, data_bytes));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });

  std::vector<TensorView> tensors;
  int64_t covered = 0;
  for (Entry& entry : entries) {
    if (entry.begin != covered)
      fail(ErrorCode::unsupported,
           "{}: {}: data_offsets: expected it to begin at {}, where the one before ends, found {}", what,
           quoted_name(entry.tensor.name), covered, entry.begin);
    covered = entry.end;
    entry.tensor.data = first + entry.begin;
    tensors.push_back(std::move(entry.tensor));
  }
  if (covered != data_bytes)
    fail(ErrorCode::unsupported,
         "{}: expected the tensors to cover {} bytes of data, found {} bytes after the last one", what,
         data_bytes, data_bytes - covered);
  return tensors;
}

}  // namespace indexshare
