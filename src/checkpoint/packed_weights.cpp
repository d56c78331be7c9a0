// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/packed_weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace indexshare {

namespace {

[[noreturn]] void reject(const Checkpoint& checkpoint, const std::string& name, const std::string& expected,
                         const std::string& found) {
  fail(ErrorCode::unsupported, "{}: {}: expected {}, found {}", checkpoint.file_of(name).string(), name,
       expected, found);
}

std::string describe(const TensorView& tensor) {
  return fmt::format("{} [{}]", dtype_name(tensor.dtype), fmt::join(tensor.shape, ", "));
}

const TensorView& companion(const Checkpoint& checkpoint, const std::string& name, const char* suffix) {
  const TensorView* tensor = checkpoint.find(name + suffix);
  if (!tensor)
    reject(checkpoint, name + "_packed", fmt::format("{}{} beside it", name, suffix), "none of that name");
  return *tensor;
}

int64_t integer_at(const TensorView& tensor, int64_t index) {
  if (tensor.dtype == DType::i32) return reinterpret_cast<const int32_t*>(tensor.data)[index];
  return reinterpret_cast<const int64_t*>(tensor.data)[index];
}

int64_t num_groups(int64_t cols, const PackedScheme& scheme) {
  return scheme.group_size == 0 ? 1 : (cols + scheme.group_size - 1) / scheme.group_size;
}

std::string describe(const PackedScheme& scheme, int64_t rows, int64_t cols) {
  return fmt::format("i32 [{}, {}] with scales [{}, {}] ({} bits{})", rows,
                     packed_words(cols, scheme.num_bits), rows, num_groups(cols, scheme), scheme.num_bits,
                     scheme.group_size == 0 ? "" : fmt::format(", groups of {}", scheme.group_size));
}

}  // namespace

int64_t packed_words(int64_t cols, int num_bits) { return (cols * num_bits + 31) / 32; }

void pack_row(const int8_t* codes, int64_t cols, int num_bits, uint32_t* words) {
  const int per_word = 32 / num_bits, offset = 1 << (num_bits - 1);
  std::fill_n(words, packed_words(cols, num_bits), 0u);
  for (int64_t c = 0; c < cols; ++c)
    words[c / per_word] |= static_cast<uint32_t>(codes[c] + offset) << (c % per_word * num_bits);
}

void PackedWeight::read_codes(int64_t row, int8_t* codes) const {
  const int64_t row_words = packed_words(cols, num_bits);
  const auto* bytes = reinterpret_cast<const uint8_t*>(words->data) + row * row_words * 4;
  if (num_bits == 8) {
    for (int64_t c = 0; c < cols; ++c) codes[c] = static_cast<int8_t>(bytes[c] - 128);
    return;
  }
  for (int64_t pair = 0; pair < cols / 2; ++pair) {
    codes[2 * pair] = static_cast<int8_t>((bytes[pair] & 15) - 8);
    codes[2 * pair + 1] = static_cast<int8_t>((bytes[pair] >> 4) - 8);
  }
  if (cols % 2 != 0) codes[cols - 1] = static_cast<int8_t>((bytes[cols / 2] & 15) - 8);
}

void PackedWeight::read_row(int64_t row, float* values) const {
  std::vector<int8_t> codes(static_cast<size_t>(cols));
  read_codes(row, codes.data());
  for (int64_t c = 0; c < cols; ++c)
    values[c] = static_cast<float>(codes[c]) * scales->at(row * num_groups() + c / group_size);
}

bool has_packed_weight(const Checkpoint& checkpoint, const std::string& name) {
  return checkpoint.find(name + "_packed") != nullptr;
}

PackedWeight find_packed_weight(const Checkpoint& checkpoint, const std::string& name,
                                std::span<const PackedScheme> schemes) {
  PackedWeight weight;
  weight.words = &checkpoint.get(name + "_packed");
  if (schemes.empty())
    reject(checkpoint, weight.words->name, "a pack-quantized quantization_config in config.json", "none");
  weight.scales = &companion(checkpoint, name, "_scale");
  weight.shape = &companion(checkpoint, name, "_shape");
  for (const char* suffix : {"_zero_point", "_g_idx"})
    if (checkpoint.find(name + suffix))
      reject(checkpoint, name + suffix, "symmetric weights with columns in their own order", "this tensor");
  const TensorView& shape = *weight.shape;
  if ((shape.dtype != DType::i64 && shape.dtype != DType::i32) || shape.shape != std::vector<int64_t>{2})
    reject(checkpoint, shape.name, "i64 [2]", describe(shape));
  weight.rows = integer_at(shape, 0), weight.cols = integer_at(shape, 1);
  constexpr int64_t kMaxDim = int64_t{1} << 31;  // keeps the products below far from overflow
  if (weight.rows < 1 || weight.cols < 1 || weight.rows > kMaxDim || weight.cols > kMaxDim)
    reject(checkpoint, shape.name, "two sizes of at least 1",
           fmt::format("[{}, {}]", weight.rows, weight.cols));
  const TensorView &words = *weight.words, &scales = *weight.scales;
  if (scales.dtype != DType::f32 && scales.dtype != DType::f16 && scales.dtype != DType::bf16)
    reject(checkpoint, scales.name, "f32, f16 or bf16", std::string(dtype_name(scales.dtype)));

  // Which of config.json's groups a weight belongs to shows in its shapes; their lists of names are not
  // needed.
  const auto fits = [&](const PackedScheme& scheme) {
    return words.dtype == DType::i32 &&
           words.shape == std::vector<int64_t>{weight.rows, packed_words(weight.cols, scheme.num_bits)} &&
           scales.shape == std::vector<int64_t>{weight.rows, num_groups(weight.cols, scheme)};
  };
  const auto found = std::ranges::find_if(schemes, fits);
  if (found == schemes.end()) {
    std::vector<std::string> expected;
    for (const PackedScheme& scheme : schemes) expected.push_back(describe(scheme, weight.rows, weight.cols));
    reject(checkpoint, words.name, fmt::format("{} by config.json", fmt::join(expected, " or ")),
           fmt::format("{} with scales {}", describe(words), describe(scales)));
  }
  const int64_t group = found->group_size == 0 ? weight.cols : std::min(found->group_size, weight.cols);
  for (const PackedScheme& other : schemes) {
    const int64_t size = other.group_size == 0 ? weight.cols : std::min(other.group_size, weight.cols);
    if (fits(other) && (other.num_bits != found->num_bits || size != group))
      reject(checkpoint, words.name, "shapes that fit one group of config.json", "two groups that they fit");
  }
  weight.num_bits = found->num_bits;
  weight.group_size = group;
  return weight;
}

}  // namespace indexshare
