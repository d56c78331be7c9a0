// SPDX-License-Identifier: Apache-2.0
// A model's folder: single files, shards, links, the HF cache; bad inputs 25 to 27 and 31 by number.
#include "checkpoint/checkpoint.h"

#include <sys/stat.h>

#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "checkpoint/bad_files.h"

namespace indexshare {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using test::write_file;

// Two shards of one tensor each, listed by an index with this weight_map.
void write_shards(const fs::path& folder, const std::string& weight_map) {
  write_file(folder / "a.safetensors", test::safetensors_of({{"first", "F32", {2}}}));
  write_file(folder / "b.safetensors", test::safetensors_of({{"second", "BF16", {3}}}));
  write_file(folder / "model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + weight_map + "}");
}

std::string open_error(const fs::path& folder, ErrorCode code = ErrorCode::unsupported) {
  return test::error_of([&] { Checkpoint::open(folder); }, code);
}

TEST(Checkpoint, FindsTensorsOfASingleFile) {
  const TempDir folder;
  write_file(folder / "model.safetensors",
             test::safetensors_of({{"w", "F32", {2, 3}}, {"v", "F8_E4M3", {5}}}));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.total_bytes(), 29u);
  EXPECT_EQ(checkpoint.get("w").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(checkpoint.find("x"), nullptr);
  const std::string message = test::error_of([&] { checkpoint.get("x"); });
  test::expect_sentence(message, {folder.path().string(), "tensor x"});
}

TEST(Checkpoint, FindsTensorsOfShards) {
  const TempDir folder;
  write_shards(folder.path(), R"({"first":"a.safetensors","second":"b.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.get("first").dtype, DType::f32);
  EXPECT_EQ(checkpoint.get("second").num_elements(), 3);
}

TEST(Checkpoint, DataAreAlignedAndSurviveRelease) {
  const TempDir folder;
  const std::string header = "{" + test::tensor_entry("odd", "U8", "[1]", 0, 1) + "," +
                             test::tensor_entry("w", "F32", "[3000]", 1, 12001) + "}";
  std::string data(12001, '\0');
  for (int i = 0; i < 3000; ++i) data[4 * i + 4] = '\x40';  // 2.0f
  write_file(folder / "model.safetensors", test::safetensors(header, data));
  Checkpoint checkpoint = Checkpoint::open(folder.path());
  checkpoint = Checkpoint::open(folder.path());
  for (const TensorView& tensor : checkpoint.tensors()) {
    checkpoint.release(tensor);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % dtype_bytes(tensor.dtype), 0u) << tensor.name;
  }
  EXPECT_EQ(checkpoint.get("w").at(2999), 2.0f);
}

class BadCheckpoint : public test::BadInput {};

TEST_F(BadCheckpoint, NoWeightsAndNoFolder) {
  const TempDir folder;
  test::expect_sentence(open_error(folder.path(), ErrorCode::not_found),
                        {"model.safetensors.index.json", "neither"});
  test::expect_sentence(open_error(folder / "x", ErrorCode::not_found), {"no such directory"});
  write_file(folder / "config.json", "{}");
  test::expect_sentence(open_error(folder / "config.json"), {"expected a model directory"});
}

TEST_F(BadCheckpoint, Input25IndexLeavesTheFolder) {
  const TempDir folder;
  for (const char* shard : {"../../etc/passwd", "/etc/passwd", "../x.safetensors", "sub/a.safetensors",
                            "a.bin", ".safetensors", "a\\u0000.safetensors", ""}) {
    write_shards(folder.path(), "{\"first\":\"" + std::string(shard) + "\"}");
    test::expect_sentence(open_error(folder.path()),
                          {"model.safetensors.index.json", "weight_map", "\"first\"", "plain file name"});
  }
  write_shards(folder.path(), R"({"first":["a.safetensors"]})");
  test::expect_sentence(open_error(folder.path()), {"weight_map", "\"first\"", "array"});
}

TEST_F(BadCheckpoint, Input25LinkOutOfTheFolder) {
  const TempDir outside, folder;
  write_file(outside / "x.safetensors", test::safetensors_of({{"w", "U8", {1}}}));
  fs::create_symlink(outside / "x.safetensors", folder / "model.safetensors");
  test::expect_sentence(open_error(folder.path()), {"model.safetensors", "inside", "link to"});
}

TEST_F(BadCheckpoint, Input25NotARegularFile) {
  const TempDir folder;
  ASSERT_EQ(mkfifo((folder / "model.safetensors").c_str(), 0600), 0);
  test::expect_sentence(open_error(folder.path()), {"model.safetensors", "regular file", "FIFO"});
  fs::remove(folder / "model.safetensors");
  fs::create_directory(folder / "model.safetensors");
  test::expect_sentence(open_error(folder.path()), {"model.safetensors", "regular file", "directory"});
  fs::remove(folder / "model.safetensors");
  fs::create_symlink("/dev/zero", folder / "model.safetensors");
  test::expect_sentence(open_error(folder.path()), {"model.safetensors", "/dev/zero"});
}

TEST_F(BadCheckpoint, Input26MissingShard) {
  const TempDir folder;
  write_shards(folder.path(), R"({"first":"a.safetensors","third":"c.safetensors"})");
  test::expect_sentence(open_error(folder.path(), ErrorCode::not_found),
                        {"c.safetensors", "cannot be opened"});
}

TEST_F(BadCheckpoint, Input26TensorInWrongShard) {
  const TempDir folder;
  write_shards(folder.path(), R"({"first":"b.safetensors","second":"a.safetensors"})");
  test::expect_sentence(open_error(folder.path()),
                        {"index.json", "\"first\" in b.safetensors", "found it in a.safe"});
  write_shards(folder.path(), R"({"first":"a.safetensors","third":"b.safetensors"})");
  test::expect_sentence(open_error(folder.path()), {"index.json", "\"third\" in b.safetensors", "nowhere"});
}

TEST_F(BadCheckpoint, Input26TensorInTwoShards) {
  const TempDir folder;
  write_shards(folder.path(), R"({"first":"a.safetensors","second":"b.safetensors"})");
  write_file(folder / "b.safetensors", test::safetensors_of({{"first", "U8", {1}}}));
  test::expect_sentence(open_error(folder.path()), {"b.safetensors", "\"first\"", "a.safetensors"});
}

TEST_F(BadCheckpoint, Input26IndexIsNotOne) {
  const TempDir folder;
  for (const char* index :
       {"[]", "{}", R"({"weight_map":{}})", R"({"weight_map":[]})", "{\"weight_map\":{", ""}) {
    write_file(folder / "model.safetensors.index.json", index);
    test::expect_sentence(open_error(folder.path()), {"model.safetensors.index.json", "expected"});
  }
}

TEST_F(BadCheckpoint, GitLfsPointers) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') +
      "\nsize 5000000000\n";
  for (const char* file : {"model.safetensors", "b.safetensors", "model.safetensors.index.json"}) {
    const TempDir folder;
    write_shards(folder.path(), R"({"first":"a.safetensors","second":"b.safetensors"})");
    write_file(folder / file, pointer);
    test::expect_sentence(open_error(folder.path()), {file, "git-lfs pointer", "git lfs pull"});
  }
}

TEST(CheckpointDeathTest, Input27ShardTruncatedAfterLoad) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TempDir folder;
  write_file(folder / "model.safetensors", test::safetensors_of({{"w", "F32", {100'000}}}));
  const auto read_after_truncation = [&] {
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    fs::resize_file(folder / "model.safetensors", 4096);
    std::exit(checkpoint.get("w").at(99'999) == 0 ? 42 : 43);
  };
  EXPECT_EXIT(read_after_truncation(), ::testing::ExitedWithCode(1),
              "model.safetensors: the file became shorter");
}

TEST(CheckpointDeathTest, OtherBusErrorsReachTheirOwnHandler) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TempDir folder;
  write_file(folder / "model.safetensors", test::safetensors_of({{"w", "F32", {1}}}));
  const auto raise_elsewhere = [&] {
    std::signal(SIGBUS, [](int) { _exit(7); });
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    for (int i = 0; i < 2; ++i) std::raise(SIGBUS);
  };
  EXPECT_EXIT(raise_elsewhere(), ::testing::ExitedWithCode(7), "");
}

TEST_F(BadCheckpoint, Input31OtherFormats) {
  for (const char* name : {"pytorch_model.bin", "model.pt", "model.gguf"}) {
    const TempDir folder;
    write_file(folder / name, "x");
    test::expect_sentence(open_error(folder.path()), {name, "expected safetensors", "save_pretrained"});
    test::expect_sentence(open_error(folder / name), {name, "expected safetensors"});
    test::expect_sentence(test::error_of([&] { resolve_model((folder / name).string()); }),
                          {name, "safetensors"});
  }
}

class HfCache : public ::testing::Test {
 protected:
  HfCache() {
    setenv("HF_HUB_CACHE", hub_.path().c_str(), 1);
    write_file(repository_ / "blobs/0123", test::safetensors_of({{"w", "U8", {1}}}));
    fs::create_directories(repository_ / "snapshots/abc");
    fs::create_symlink("../../blobs/0123", repository_ / "snapshots/abc/model.safetensors");
  }
  ~HfCache() override { unsetenv("HF_HUB_CACHE"); }

  TempDir hub_;
  fs::path repository_ = hub_ / "models--org--name";
};

TEST_F(HfCache, NameLeadsToTheSnapshotOfMain) {
  write_file(repository_ / "refs/main", "abc\n");
  fs::create_directories(repository_ / "snapshots/older");
  const fs::path found = resolve_model("org/name");
  EXPECT_EQ(found, repository_ / "snapshots/abc");
  EXPECT_NE(Checkpoint::open(found).find("w"), nullptr);
}

TEST_F(HfCache, OnlySnapshotWithoutRef) {
  EXPECT_EQ(resolve_model("org/name"), repository_ / "snapshots/abc");
  fs::create_directories(repository_ / "snapshots/other");
  test::expect_sentence(test::error_of([] { resolve_model("org/name"); }, ErrorCode::not_found),
                        {"models--org--name", "found 2 snapshots"});
}

TEST_F(HfCache, HomeOfTheCache) {
  unsetenv("HF_HUB_CACHE");
  const TempDir home;
  fs::create_directory_symlink(hub_.path(), home / "hub");
  setenv("HF_HOME", home.path().c_str(), 1);
  EXPECT_EQ(resolve_model("org/name"), home.path() / "hub/models--org--name/snapshots/abc");
  unsetenv("HF_HOME");
}

TEST_F(HfCache, ErrorsSayWhereItLooked) {
  test::expect_sentence(test::error_of([] { resolve_model("org/other"); }, ErrorCode::not_found),
                        {"org/other", hub_.path().string(), "models--org--other", "never downloaded"});
  for (const char* name : {"plain", "../up", "org/../x", "a/b/c", "", "or\ng/x"})
    test::expect_sentence(test::error_of([&] { resolve_model(name); }, ErrorCode::not_found),
                          {"no such directory"});
  write_file(repository_ / "refs/main", "../../x");
  test::expect_sentence(test::error_of([] { resolve_model("org/name"); }),
                        {"refs/main", "name of a snapshot"});
  write_file(repository_ / "refs/main", "zzz");
  test::expect_sentence(test::error_of([] { resolve_model("org/name"); }, ErrorCode::not_found),
                        {"snapshots/zzz"});
}

TEST_F(HfCache, LinkOutOfTheRepositoryIsRefused) {
  write_file(hub_ / "elsewhere", test::safetensors_of({}));
  fs::remove(repository_ / "snapshots/abc/model.safetensors");
  fs::create_symlink("../../../elsewhere", repository_ / "snapshots/abc/model.safetensors");
  test::expect_sentence(test::error_of([&] { Checkpoint::open(repository_ / "snapshots/abc"); }),
                        {"model.safetensors", "inside", "elsewhere"});
}

}  // namespace
}  // namespace indexshare
