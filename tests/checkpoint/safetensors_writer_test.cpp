// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "checkpoint/bad_files.h"
#include "checkpoint/checkpoint.h"

namespace indexshare {
namespace {

namespace fs = std::filesystem;

const std::vector<TensorLayout> kTensors = {{"a", DType::bf16, {3}},
                                            {"b", DType::f32, {2, 5}},
                                            {"c", DType::i64, {2}},
                                            {"d", DType::f8_e4m3, {7}},
                                            {"e", DType::i32, {0, 4}}};

// Each tensor filled with its own letter, in two pieces, the second first.
void write(const fs::path& directory, size_t max_shard_bytes) {
  SafetensorsWriter writer(directory, kTensors, max_shard_bytes);
  for (const TensorLayout& tensor : kTensors) {
    const std::string bytes(tensor.num_bytes(), tensor.name[0]);
    const size_t half = bytes.size() / 2;
    writer.write(tensor.name, half, bytes.data() + half, bytes.size() - half);
    writer.write(tensor.name, 0, bytes.data(), half);
  }
  writer.finish();
}

std::set<std::string> files_of(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
  return names;
}

void expect_tensors(const fs::path& directory) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  EXPECT_EQ(checkpoint.tensors().size(), kTensors.size());
  for (const TensorLayout& tensor : kTensors) {
    const TensorView& found = checkpoint.get(tensor.name);
    EXPECT_EQ(found.dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(found.shape, tensor.shape) << tensor.name;
    const std::string bytes(tensor.num_bytes(), tensor.name[0]);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(found.data), found.num_bytes()), bytes);
  }
}

TEST(SafetensorsWriter, OneFile) {
  const test::TempDir folder;
  write(folder.path(), 1000);
  EXPECT_EQ(files_of(folder.path()), std::set<std::string>{"model.safetensors"});
  expect_tensors(folder.path());
}

TEST(SafetensorsWriter, ShardsAndTheirIndex) {
  const test::TempDir folder;
  write(folder.path(), 50);  // a and b; c, d and e
  EXPECT_EQ(files_of(folder.path()),
            (std::set<std::string>{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                   "model.safetensors.index.json"}));
  expect_tensors(folder.path());
}

TEST(SafetensorsWriter, ATensorLargerThanAShardHasOneOfItsOwn) {
  const test::TempDir folder;
  write(folder.path(), 1);
  EXPECT_EQ(files_of(folder.path()).size(), kTensors.size() + 1);  // and the index
  expect_tensors(folder.path());
}

TEST(SafetensorsWriter, RefusesToWriteOverFilesAndOutsideOfTensors) {
  const test::TempDir folder;
  write(folder.path(), 1000);
  test::expect_sentence(test::error_of([&] { write(folder.path(), 1000); }, ErrorCode::io),
                        {"model.safetensors", "exists"});
  const test::TempDir other;
  SafetensorsWriter writer(other.path(), kTensors, 1000);
  const char bytes[8] = {};
  EXPECT_THROW(writer.write("a", 4, bytes, 8), Error);
}

}  // namespace
}  // namespace indexshare
