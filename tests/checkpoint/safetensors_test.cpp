// SPDX-License-Identifier: Apache-2.0
// The format's rules on one file: what is accepted, and bad inputs 1 to 24 by number.
#include "checkpoint/safetensors.h"

#include "checkpoint/bad_files.h"

namespace indexshare {
namespace {

using test::safetensors;
using test::tensor_entry;

std::vector<TensorView> parse(const std::string& bytes) {
  return parse_safetensors(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(),
                           "model.safetensors");
}

std::string message_of(const std::string& bytes) {
  return test::error_of([&] { parse(bytes); });
}

// A file whose header is these entries, over `data_bytes` of data.
std::string message_of(const std::string& entries, size_t data_bytes) {
  return message_of(safetensors("{" + entries + "}", std::string(data_bytes, '\0')));
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
  const std::string header = "{" + tensor_entry("b", "BF16", "[2]", 8, 12) + "," +
                             tensor_entry("a", "F32", "[1,2]", 0, 8) +
                             ",\"__metadata__\":{\"format\":\"pt\"}}   ";
  const std::string file = safetensors(header, std::string("\0\0\x80\x3f\0\0\0\x40\x40\x40\x80\x3f", 12));
  const std::vector<TensorView> tensors = parse(file);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(tensors[1].dtype, DType::bf16);
  EXPECT_EQ(tensors[1].num_bytes(), 4u);
  EXPECT_EQ(tensors[1].data - tensors[0].data, 8);
}

TEST(Safetensors, AcceptsScalarsEmptyTensorsAndNoTensors) {
  EXPECT_TRUE(parse(safetensors("{}", "")).empty());
  const std::string entries = tensor_entry("scalar", "F32", "[]", 0, 4) + "," +
                              tensor_entry("none", "F16", "[0,9223372036854775807]", 4, 4) + "," +
                              tensor_entry("flag", "BOOL", "[1]", 4, 5);
  const std::string file = safetensors("{" + entries + "}", std::string(5, '\0'));
  const std::vector<TensorView> tensors = parse(file);
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].num_elements(), 1);
  EXPECT_EQ(tensors[1].num_bytes(), 0u);
  EXPECT_EQ(tensors[2].dtype, DType::u8);
}

class BadSafetensors : public test::BadInput {};

TEST_F(BadSafetensors, Input01ZeroByteFile) {
  test::expect_sentence(test::error_of([] { parse_safetensors(nullptr, 0, "model.safetensors"); }),
                        {"model.safetensors", "at least 8 bytes", "found 0"});
}

TEST_F(BadSafetensors, Input02SevenByteFile) {
  test::expect_sentence(message_of("1234567"), {"model.safetensors", "at least 8 bytes", "found 7"});
}

TEST_F(BadSafetensors, Input03HeaderLengthOf2To63) {
  test::expect_sentence(message_of(std::string("\0\0\0\0\0\0\0\x80{}", 10)),
                        {"model.safetensors", "at most 100000000 bytes", "found 9223372036854775808"});
}

TEST_F(BadSafetensors, Input04HeaderLengthBeyondFile) {
  test::expect_sentence(message_of(std::string("\x40\0\0\0\0\0\0\0{}", 10)),
                        {"header of 64 bytes", "file of 10"});
}

TEST_F(BadSafetensors, Input05HeaderLengthBeyondLimit) {
  test::expect_sentence(message_of(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)),
                        {"100000000", "found 100000001"});
}

TEST_F(BadSafetensors, Input06HeaderNotUtf8) {
  test::expect_sentence(message_of(safetensors("{\"\xff\xfe\":1}", "")), {"model.safetensors", "JSON"});
}

TEST_F(BadSafetensors, Input07HeaderNotStartingWithBrace) {
  test::expect_sentence(message_of(safetensors(" {}", "")),
                        {"model.safetensors", "starts with '{'", "\" \""});
  test::expect_sentence(message_of(safetensors("[]", "")), {"starts with '{'", "\"[\""});
  test::expect_sentence(message_of(safetensors("", "")), {"starts with '{'"});
}

TEST_F(BadSafetensors, Input08TruncatedJson) {
  test::expect_sentence(message_of(safetensors("{\"a\":{\"dtype\":\"F32\",", "")),
                        {"model.safetensors", "JSON"});
  test::expect_sentence(message_of(safetensors("{} {}", "")), {"model.safetensors", "JSON"});
  test::expect_sentence(message_of(safetensors(std::string("{}\0PK", 5), "")), {"model.safetensors", "JSON"});
}

TEST_F(BadSafetensors, Input09DeepNesting) {
  const std::string deep = "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  test::expect_sentence(message_of(safetensors(deep, "")), {"model.safetensors", "deep"});
}

TEST_F(BadSafetensors, Input10DuplicateTensorName) {
  const std::string entry = tensor_entry("weight", "U8", "[1]", 0, 1);
  test::expect_sentence(message_of(entry + "," + entry, 1), {"model.safetensors", "\"weight\"", "twice"});
}

TEST_F(BadSafetensors, Input11DuplicateKeyInEntry) {
  test::expect_sentence(message_of(R"("w":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})", 1),
                        {"model.safetensors", "\"dtype\"", "twice", "w"});
  test::expect_sentence(message_of(R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"offset":0})", 1),
                        {"\"w\"", "expected only dtype, shape and data_offsets", "\"offset\""});
}

TEST_F(BadSafetensors, Input12MetadataNotString) {
  test::expect_sentence(message_of(R"("__metadata__":{"format":1})", 0),
                        {"__metadata__", "strings", "\"format\""});
  test::expect_sentence(message_of(R"("__metadata__":["format"])", 0), {"__metadata__", "object"});
}

TEST_F(BadSafetensors, Input13UnknownDtype) {
  for (const char* dtype : {"F64", "F8_E5M2", "F4", "bf16", ""})
    test::expect_sentence(
        message_of(tensor_entry("w", dtype, "[1]", 0, 8), 8),
        {"model.safetensors", "\"w\"", "dtype", "F8_E4M3", std::string("\"") + dtype + "\""});
}

TEST_F(BadSafetensors, Input14BadDimension) {
  for (const char* dim : {"-1", "2.0", "1e300", "\"2\"", "null", "18446744073709551615", "true"})
    test::expect_sentence(message_of(tensor_entry("w", "U8", std::string("[") + dim + "]", 0, 2), 2),
                          {"model.safetensors", "\"w\"", "shape[0]", "integer"});
  test::expect_sentence(message_of(tensor_entry("w", "U8", "[1e400]", 0, 2), 2),
                        {"model.safetensors", "range"});
}

TEST_F(BadSafetensors, Input15ShapeProductOverflow) {
  test::expect_sentence(message_of(tensor_entry("w", "F32", "[4611686018427387904,2]", 0, 4), 4),
                        {"\"w\"", "2^63"});
  test::expect_sentence(message_of(tensor_entry("w", "F32", "[4611686018427387904]", 0, 4), 4),
                        {"\"w\"", "found 4"});
}

TEST_F(BadSafetensors, Input16RankOfAMillion) {
  std::string shape = "[1";
  for (int i = 1; i < 1'000'000; ++i) shape += ",1";
  test::expect_sentence(message_of(tensor_entry("w", "U8", shape + "]", 0, 1), 1),
                        {"\"w\"", "at most 8 dimensions", "found 1000000"});
}

TEST_F(BadSafetensors, Input17BeginBeyondEnd) {
  test::expect_sentence(message_of(tensor_entry("w", "U8", "[1]", 1, 0), 1),
                        {"\"w\"", "data_offsets", "[1, 0]"});
  test::expect_sentence(message_of(R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0]})", 1),
                        {"\"w\"", "data_offsets", "[begin, end]"});
}

TEST_F(BadSafetensors, Input18EndBeyondBuffer) {
  test::expect_sentence(message_of(tensor_entry("w", "U8", "[2]", 0, 2), 1),
                        {"\"w\"", "data_offsets", "<= 1 "});
}

TEST_F(BadSafetensors, Input19Overlap) {
  std::string entries;
  for (int i = 0; i < 100'000; ++i)
    entries += (i ? "," : "") + tensor_entry("t" + std::to_string(i), "U8", "[8]", 0, 8);
  test::expect_sentence(message_of(entries, 8),
                        {"model.safetensors", "data_offsets", "begin at 8", "found 0"});
}

TEST_F(BadSafetensors, Input20Hole) {
  const std::string entries =
      tensor_entry("a", "U8", "[2]", 0, 2) + "," + tensor_entry("b", "U8", "[1]", 3, 4);
  test::expect_sentence(message_of(entries, 4), {"\"b\"", "begin at 2", "found 3"});
}

TEST_F(BadSafetensors, Input21TrailingBytes) {
  test::expect_sentence(message_of(tensor_entry("a", "U8", "[2]", 0, 2), 6),
                        {"model.safetensors", "4 bytes after"});
}

TEST_F(BadSafetensors, Input22SizeIsNotShapeTimesDtype) {
  test::expect_sentence(message_of(tensor_entry("a", "BF16", "[3]", 0, 5), 5),
                        {"\"a\"", "expected 3 x 2 bytes", "bf16", "found 5"});
}

TEST_F(BadSafetensors, Input23SubByteSlice) {
  test::expect_sentence(message_of(tensor_entry("a", "F4", "[3]", 0, 2), 2), {"\"a\"", "dtype", "\"F4\""});
}

TEST_F(BadSafetensors, Input24HostileNames) {
  for (const char* name :
       {"w\\u0000", "w\\nx", "../w", "a/b", "a\\\\b", "w\\u202egpj", "w\\u007f", "", "\xc3\xa9"})
    test::expect_sentence(message_of(tensor_entry(name, "U8", "[1]", 0, 1), 1),
                          {"model.safetensors", "printable ASCII", "found \""});
  test::expect_sentence(message_of(tensor_entry(std::string(1'000'000, 'w'), "U8", "[1]", 0, 1), 1),
                        {"model.safetensors", "www...\" (1000000 bytes)"});
}

}  // namespace
}  // namespace indexshare
