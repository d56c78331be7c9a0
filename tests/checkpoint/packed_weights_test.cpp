// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/packed_weights.h"

#include <gtest/gtest.h>

#include <cstring>

#include "checkpoint/bad_files.h"

namespace indexshare {
namespace {

using test::error_of;
using test::expect_sentence;

constexpr PackedScheme kInt8{.num_bits = 8, .group_size = 128}, kInt4{.num_bits = 4, .group_size = 64};

TEST(PackedWeights, FirstCodeInTheLowestBits) {
  const int8_t codes[] = {-8, 7, 0, -1, 1, 2, 3, 4, -3};
  uint32_t words[2];
  pack_row(codes, 9, 4, words);
  EXPECT_EQ(words[0], 0xcba978f0u);
  EXPECT_EQ(words[1], 0x5u);
  uint32_t one;
  pack_row(codes, 3, 8, &one);
  EXPECT_EQ(one, 0x00808778u);
}

// A weight x.weight [rows, cols] of zero bytes, its parts described by the caller.
struct Parts {
  std::string words = "[2,20]", words_type = "I32";
  std::string scales = "[2,3]", scales_type = "F32";
  std::vector<int64_t> shape = {2, 160};
  std::string left_out, extra;
};

int64_t elements(const std::string& shape) {
  int64_t product = 1;
  for (size_t at = 1; at < shape.size();
       at = shape.find(',', at) == std::string::npos ? shape.size() : shape.find(',', at) + 1)
    product *= std::stoll(shape.substr(at));
  return product;
}

PackedWeight find(const test::TempDir& folder, const Parts& parts, const std::vector<PackedScheme>& schemes) {
  std::string header = "{", data;
  const auto add = [&](const std::string& name, const std::string& type, const std::string& shape,
                       std::string bytes) {
    if (name == parts.left_out) return;
    const auto begin = static_cast<int64_t>(data.size());
    data += bytes;
    header += (header.size() > 1 ? "," : "") +
              test::tensor_entry(name, type, shape, begin, static_cast<int64_t>(data.size()));
  };
  std::string shape(16, '\0');
  std::memcpy(shape.data(), parts.shape.data(), 16);
  const auto zeros = [](const std::string& type, const std::string& dims) {
    const int64_t size = type == "F32" || type == "I32" ? 4 : type == "BF16" ? 2 : 1;
    return std::string(static_cast<size_t>(elements(dims) * size), '\0');
  };
  add("x.weight_shape", "I64", "[2]", shape);
  add("x.weight_packed", parts.words_type, parts.words, zeros(parts.words_type, parts.words));
  add("x.weight_scale", parts.scales_type, parts.scales, zeros(parts.scales_type, parts.scales));
  if (!parts.extra.empty()) add(parts.extra, "F32", "[1]", std::string(4, '\0'));
  test::write_file(folder / "model.safetensors", test::safetensors(header + "}", data));
  static std::vector<std::unique_ptr<Checkpoint>> open;  // the weight points into it
  open.push_back(std::make_unique<Checkpoint>(Checkpoint::open(folder.path())));
  return find_packed_weight(*open.back(), "x.weight", schemes);
}

TEST(PackedWeights, TheSchemeShowsInTheShapes) {
  const test::TempDir folder;
  EXPECT_EQ(find(folder, {}, {kInt4, kInt8}).num_bits, 4);
  EXPECT_EQ(find(folder, {}, {kInt4, kInt8}).num_groups(), 3);
  const Parts eight{.words = "[2,40]", .scales = "[2,2]"};
  EXPECT_EQ(find(folder, eight, {kInt4, kInt8}).num_bits, 8);
  const Parts channel{.words = "[2,40]", .scales = "[2,1]", .scales_type = "BF16"};
  const PackedWeight whole_rows = find(folder, channel, {{.num_bits = 8, .group_size = 0}});
  EXPECT_EQ(whole_rows.group_size, 160);
  std::vector<int8_t> codes(160);
  whole_rows.read_codes(1, codes.data());
  EXPECT_EQ(codes, std::vector<int8_t>(160, -128));
}

TEST(PackedWeights, RowsOfAnyLengthSurvive) {
  for (const int bits : {4, 8})
    for (int64_t cols = 1; cols < 40; ++cols) {
      std::vector<int8_t> codes(static_cast<size_t>(cols)), read(codes.size(), 99);
      for (int64_t c = 0; c < cols; ++c)
        codes[c] = static_cast<int8_t>(bits == 4 ? c * 5 % 16 - 8 : c * 77 % 256 - 128);
      std::vector<uint32_t> words(static_cast<size_t>(2 * packed_words(cols, bits)));
      pack_row(codes.data(), cols, bits, words.data() + packed_words(cols, bits));
      const TensorView view{
          "x", DType::i32, {2, packed_words(cols, bits)}, reinterpret_cast<const std::byte*>(words.data())};
      const PackedWeight weight{.words = &view, .rows = 2, .cols = cols, .num_bits = bits};
      weight.read_codes(1, read.data());
      EXPECT_EQ(read, codes) << bits << " bits, " << cols << " columns";
    }
}

class BadPackedWeights : public test::BadInput {
 protected:
  std::string message(const Parts& parts, const std::vector<PackedScheme>& schemes = {kInt4}) {
    const test::TempDir folder;
    return error_of([&] { find(folder, parts, schemes); });
  }
};

TEST_F(BadPackedWeights, PartsThatAreMissing) {
  expect_sentence(message({.left_out = "x.weight_scale"}), {"model.safetensors", "x.weight_scale", "none"});
  expect_sentence(message({.left_out = "x.weight_shape"}), {"x.weight_shape", "none"});
  expect_sentence(message({}, {}), {"x.weight_packed", "quantization_config", "none"});
}

TEST_F(BadPackedWeights, PartsThatDoNotFit) {
  for (const char* words : {"[2,19]", "[2,21]", "[3,20]", "[40]", "[2,40]"})
    expect_sentence(message({.words = words}), {"x.weight_packed", "i32 [2, 20]", "scales [2, 3]", "4 bits"});
  for (const char* scales : {"[2,2]", "[2,4]", "[1,3]", "[6]"})
    expect_sentence(message({.scales = scales}), {"x.weight_packed", "scales [2, 3]", "groups of 64"});
  expect_sentence(message({.words_type = "F32"}), {"x.weight_packed", "f32 [2, 20]"});
  expect_sentence(message({.scales_type = "U8"}), {"x.weight_scale", "f32, f16 or bf16", "u8"});
}

TEST_F(BadPackedWeights, ShapesThatAreNone) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{0, 160}, {-1, 160}, {2, -160}, {int64_t{1} << 62, int64_t{1} << 62}})
    expect_sentence(message({.shape = shape}), {"x.weight_shape", "at least 1"});
  expect_sentence(message({.shape = {160, 2}}), {"x.weight_packed", "i32 [160, 1]"});
}

TEST_F(BadPackedWeights, AsymmetricOrReordered) {
  expect_sentence(message({.extra = "x.weight_zero_point"}), {"x.weight_zero_point", "symmetric"});
  expect_sentence(message({.extra = "x.weight_g_idx"}), {"x.weight_g_idx", "own order"});
}

TEST_F(BadPackedWeights, TwoSchemesThatFit) {
  const PackedScheme other{.num_bits = 4, .group_size = 72};
  expect_sentence(message({}, {kInt4, other}), {"x.weight_packed", "two groups"});
}

}  // namespace
}  // namespace indexshare
