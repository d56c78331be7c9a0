// SPDX-License-Identifier: Apache-2.0
// What load_weights makes of checkpoints that do not match their config: bad inputs 28, 29 and 32, and
// surplus tensors.
#include "model/weights.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "indexshare/error.h"

namespace indexshare {
namespace {

namespace fs = std::filesystem;

const fs::path kFixtures = fs::path(INDEXSHARE_BINARY_DIR) / "fixtures";

// A copy of a fixture whose safetensors header has every `from` replaced by `to`, of the same length.
fs::path altered(const std::string& name, const std::string& from, const std::string& to) {
  const fs::path copy = kFixtures / ("altered-" + name);
  fs::remove_all(copy);
  fs::copy(kFixtures / name, copy, fs::copy_options::recursive);
  std::fstream file(copy / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  uint64_t header_bytes = 0;
  file.read(reinterpret_cast<char*>(&header_bytes), 8);
  std::string header(header_bytes, ' ');
  file.read(header.data(), static_cast<std::streamsize>(header_bytes));
  size_t at = header.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  EXPECT_EQ(from.size(), to.size());
  for (; at != std::string::npos; at = header.find(from, at + to.size())) header.replace(at, to.size(), to);
  file.seekp(8);
  file.write(header.data(), static_cast<std::streamsize>(header_bytes));
  return copy;
}

Weights load(const fs::path& directory, const WeightOptions& options = {}, SharePlan* plan = nullptr) {
  static const std::unique_ptr<Backend> backend = make_backend("reference", 1);
  ModelConfig config = load_model_config(directory);
  if (plan) config.plan = *plan;
  return load_weights(config, std::make_shared<const Checkpoint>(Checkpoint::open(directory)), *backend,
                      options);
}

std::string error_of(const fs::path& directory) {
  try {
    load(directory);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    return error.what();
  }
  return "";
}

TEST(Weights, Input28SurplusIndexersAreNotedInOneLine) {
  const Weights w = load(kFixtures / "tiny-glm");
  ASSERT_EQ(w.notes.size(), 1u);
  EXPECT_EQ(w.notes[0], "indexer tensors of 4 shared layers are not used under this plan: 3, 4, 5, 7");
  EXPECT_TRUE(load(kFixtures / "tiny-glm-shared").notes.empty());
  EXPECT_EQ(w.layers[3].attention.indexer, nullptr);
  EXPECT_NE(w.layers[6].attention.indexer, nullptr);
}

TEST(Weights, Input28MissingIndexersOfFullLayersAreAnError) {
  const std::string message =
      error_of(altered("tiny-glm-shared", "layers.6.self_attn.indexer.wk", "layers.6.self_attn.indexer.xx"));
  EXPECT_NE(message.find("model.layers.6.self_attn.indexer.wk.weight"), std::string::npos) << message;
}

TEST(Weights, Input29WrongShapeOrType) {
  const std::string shape = error_of(altered("tiny-glm-shared", "\"shape\":[48,64]", "\"shape\":[64,48]"));
  EXPECT_NE(shape.find("[48, 64]"), std::string::npos) << shape;
  EXPECT_NE(shape.find("model.safetensors: model.layers."), std::string::npos) << shape;
  EXPECT_NE(shape.find("[64, 48]"), std::string::npos) << shape;
  const std::string type = error_of(altered("tiny-glm-shared", "\"F32\"", "\"I32\""));
  EXPECT_NE(type.find("the file has i32"), std::string::npos) << type;
}

TEST(Weights, Input32ScaleMissingOrOfTheWrongShape) {
  const std::string missing = error_of(altered("tiny-glm-fp8", "layers.1.self_attn.q_a_proj.weight_scale_inv",
                                               "layers.1.self_attn.q_a_proj.weight_scale_xxx"));
  EXPECT_NE(missing.find("model.layers.1.self_attn.q_a_proj.weight_scale_inv"), std::string::npos) << missing;
  const std::string shape = error_of(altered("tiny-glm-fp8", "\"shape\":[2,1]", "\"shape\":[1,2]"));
  EXPECT_NE(shape.find("one scale a 128x128 block"), std::string::npos) << shape;
}

TEST(Weights, TheMtpLayerIsReadWhereAskedFor) {
  const Weights unread = load(kFixtures / "tiny-glm-mtp");
  EXPECT_FALSE(unread.mtp.has_value());
  ASSERT_EQ(unread.notes.size(), 1u);
  EXPECT_NE(unread.notes[0].find("of the MTP layer are not used"), std::string::npos) << unread.notes[0];
  const Weights w = load(kFixtures / "tiny-glm-mtp", {.mtp = true});
  ASSERT_TRUE(w.mtp.has_value());
  EXPECT_TRUE(w.notes.empty());
  EXPECT_NE(w.mtp->layer.attention.indexer, nullptr);
  EXPECT_EQ(w.mtp->join->in_dim(), 128);
  EXPECT_TRUE(std::holds_alternative<MoeWeights>(w.mtp->layer.mlp));
  // DeepSeek's copies of embedding and head stay unread.
  const Weights deepseek = load(kFixtures / "tiny-deepseek-mtp", {.mtp = true});
  ASSERT_EQ(deepseek.notes.size(), 1u);
  EXPECT_NE(deepseek.notes[0].find("2 tensors of MTP layers are not used"), std::string::npos)
      << deepseek.notes[0];
  const fs::path lacking = altered("tiny-glm-mtp", "layers.8.hnorm", "layers.8.xnorm");
  try {
    load(lacking, {.mtp = true});
    FAIL() << "loaded";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers.8.hnorm.weight"), std::string::npos)
        << error.what();
  }
}

TEST(Weights, BorrowedIndexersAreMarked) {
  SharePlan every = SharePlan::every_layer(8);
  const Weights w = load(kFixtures / "tiny-glm-shared", {.borrow_indexers = true}, &every);
  EXPECT_TRUE(w.cost_only);
  EXPECT_EQ(w.layers[5].attention.indexer, w.layers[2].attention.indexer);
  EXPECT_EQ(w.layers[7].attention.indexer, w.layers[6].attention.indexer);
  EXPECT_FALSE(load(kFixtures / "tiny-glm", {.borrow_indexers = true}, &every).cost_only);
}

}  // namespace
}  // namespace indexshare
