// SPDX-License-Identifier: Apache-2.0
// Checkpoints written by quantize_model: what they hold, that they give what quantising at load gives, and
// that nothing half-written is left behind.
#include "indexshare/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "base/json.h"
#include "checkpoint/bad_files.h"
#include "checkpoint/packed_weights.h"
#include "engine/fixture.h"
#include "model/model_config.h"
#include "model/weight_formats.h"

namespace indexshare {
namespace {

namespace fs = std::filesystem;

using test::error_of;
using test::expect_sentence;

std::vector<float> logits(const std::string& model, const std::string& weights, const std::string& backend) {
  EngineOptions options;
  options.backend = backend;
  options.weights = weights;
  options.ctx_size = 256;
  options.kv_cache_dtype = "f32";
  const auto engine = Engine::load(model, options);
  return logits_of(*engine, random_tokens(40, 1));
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::set<std::string> names_in(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
  return names;
}

// A fixture whose head is tied to its embedding.
fs::path tied(const test::TempDir& folder) {
  fs::copy(fixture("tiny-glm-bf16"), folder / "tied");
  Json config = read_json_file(folder / "tied/config.json");
  config["tie_word_embeddings"] = true;
  test::write_file(folder / "tied/config.json", config.dump());
  // The copy in the file must not be the head: give it another name of the same length.
  std::string weights = bytes_of(folder / "tied/model.safetensors");
  const size_t at = weights.find("lm_head.weight");
  test::write_file(folder / "tied/model.safetensors", weights.replace(at, 7, "no_head"));
  return folder / "tied";
}

class Quantized : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Quantized, GivesWhatQuantisingAtLoadGives) {
  const auto& [name, weights] = GetParam();
  const test::TempDir folder;
  const std::string model = name == "tied" ? tied(folder).string() : fixture(name);
  const std::string out = folder / "out";
  quantize_model(model, out, {.weights = weights});
  for (const char* backend : {"reference", "cpu"}) {
    const std::vector<float> at_load = logits(model, weights, backend);
    EXPECT_EQ(logits(out, "auto", backend), at_load) << backend;
    EXPECT_EQ(logits(out, weights, backend), at_load) << backend;
  }
  EXPECT_NE(logits(out, "auto", "reference"), logits(model, "auto", "reference"));
}

INSTANTIATE_TEST_SUITE_P(All, Quantized,
                         testing::Combine(testing::Values("tiny-glm-shared", "tiny-glm-bf16", "tiny-glm-fp8",
                                                          "tiny-deepseek", "tied"),
                                          testing::Values("int8", "int4")),
                         [](const auto& test_case) {
                           std::string name =
                               std::get<0>(test_case.param) + "_" + std::get<1>(test_case.param);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(QuantizeModel, WritesWhatTheConfigSays) {
  const test::TempDir folder;
  const fs::path out = folder / "out";
  const QuantizeReport report = quantize_model(fixture("tiny-glm-bf16"), out, {.weights = "int4"});
  const ModelConfig config = load_model_config(out);
  EXPECT_EQ(config.weights_dtype, "int4");
  const Checkpoint checkpoint = Checkpoint::open(out);
  const auto bits = [&](const std::string& name) {
    return find_packed_weight(checkpoint, name, config.packed_schemes).num_bits;
  };
  EXPECT_EQ(bits("model.layers.2.mlp.experts.7.down_proj.weight"), 4);
  EXPECT_EQ(bits("model.layers.0.self_attn.o_proj.weight"), 4);
  EXPECT_EQ(bits("model.layers.0.self_attn.indexer.wq_b.weight"), 8);
  EXPECT_EQ(bits("lm_head.weight"), 8);
  for (const char* kept :
       {"model.layers.2.mlp.gate.weight", "model.layers.0.self_attn.kv_b_proj.weight",
        "model.layers.0.self_attn.indexer.weights_proj.weight", "model.embed_tokens.weight"}) {
    ASSERT_TRUE(checkpoint.find(kept)) << kept;
    EXPECT_EQ(checkpoint.find(kept)->dtype, DType::bf16) << kept;
  }
  const Json json = read_json_file(out / "config.json");
  const std::string ignore = json["quantization_config"]["ignore"].dump();
  for (const char* pattern : {R"(re:model\\.layers\\.\\d+\\.mlp\\.gate$)", "kv_b_proj", "weights_proj",
                              "embed_tokens", "input_layernorm"})
    EXPECT_NE(ignore.find(pattern), std::string::npos) << pattern << " " << ignore;
  EXPECT_EQ(names_in(out), names_in(fixture("tiny-glm-bf16")));
  EXPECT_EQ(report.bytes_after, checkpoint.total_bytes());
  ASSERT_EQ(report.kinds.size(), 6u);
  for (const QuantizedKind& kind : report.kinds) {
    EXPECT_EQ(kind.relative_rms_error > 0, kind.kind != "kept") << kind.kind;
    EXPECT_LT(kind.relative_rms_error, kind.format == "int4" ? 0.12 : 0.01) << kind.kind;
  }
}

TEST(QuantizeModel, TheSameBytesWhateverTheThreads) {
  const test::TempDir folder;
  quantize_model(fixture("tiny-glm-fp8"), folder / "one", {.weights = "int4", .threads = 1});
  quantize_model(fixture("tiny-glm-fp8"), folder / "three", {.weights = "int4", .threads = 3});
  for (const std::string& name : names_in(folder / "one"))
    EXPECT_EQ(bytes_of(folder / "one" / name), bytes_of(folder / "three" / name)) << name;
}

TEST(QuantizeModel, BadDestinations) {
  const test::TempDir folder;
  fs::copy(fixture("tiny-glm-bf16"), folder / "model");
  const std::string model = folder / "model";
  const auto refused = [&](const std::string& out, bool replace = false) {
    return error_of([&] { quantize_model(model, out, {.replace = replace}); }, ErrorCode::invalid_argument);
  };
  expect_sentence(refused(model + "/out"), {"outside the model", model});
  expect_sentence(refused(model), {"outside the model"});
  expect_sentence(refused(model + "/../model/", true), {"outside the model"});
  expect_sentence(refused(folder.path()), {"one that holds"});
  expect_sentence(refused(folder / "no/where"), {"expected a directory to write into"});
  test::write_file(folder / "full/notes.txt", "keep me");
  expect_sentence(refused(folder / "full"), {"full", "files in it", "--force"});
  expect_sentence(refused(folder / "full", true), {"expected a model to replace", "config.json"});
  test::write_file(folder / "file", "");
  expect_sentence(refused(folder / "file", true), {"something else"});
  EXPECT_EQ(bytes_of(folder / "full/notes.txt"), "keep me");
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"model", "full", "file"}));
}

TEST(QuantizeModel, ReplacesAModelOnRequestAlone) {
  const test::TempDir folder;
  const std::string out = folder / "out";
  fs::create_directory(out);  // an empty one is no obstacle
  quantize_model(fixture("tiny-glm-bf16"), out + "/", {.weights = "int8"});
  EXPECT_THROW(quantize_model(fixture("tiny-glm-bf16"), out, {.weights = "int4"}), Error);
  EXPECT_EQ(load_model_config(out).weights_dtype, "int8");
  quantize_model(fixture("tiny-glm-bf16"), out, {.weights = "int4", .replace = true});
  EXPECT_EQ(load_model_config(out).weights_dtype, "int4");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"out"});
}

TEST(QuantizeModel, AModelQuantisedBeforeIsRefused) {
  const test::TempDir folder;
  expect_sentence(error_of([&] { quantize_model(fixture("tiny-glm-int4"), folder / "out"); }),
                  {"quantization_config", "not quantised before", "int4"});
  expect_sentence(error_of([&] { quantize_model(fixture("tiny-glm"), folder / "out", {.weights = "int3"}); },
                           ErrorCode::invalid_argument),
                  {"weights", "int3"});
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(QuantizeModel, AnExceptionLeavesNothingBehind) {
  const test::TempDir folder;
  const QuantizeOptions options{.progress = [](int64_t done, int64_t total) {
    if (2 * done > total) throw std::runtime_error("stop");
  }};
  EXPECT_THROW(quantize_model(fixture("tiny-glm-bf16"), folder / "out", options), std::runtime_error);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(QuantizeModel, NotANumberIsRefused) {
  const test::TempDir folder;
  fs::copy(fixture("tiny-glm"), folder / "model");
  const Checkpoint checkpoint = Checkpoint::open(folder / "model");
  const TensorView& weight = checkpoint.get("model.layers.1.mlp.up_proj.weight");
  std::string bytes = bytes_of(folder / "model/model.safetensors");
  const std::string needle(reinterpret_cast<const char*>(weight.data) + 4 * 65, 64);
  const float nan = std::nanf("");
  bytes.replace(bytes.find(needle), 4, reinterpret_cast<const char*>(&nan), 4);
  fs::remove(folder / "model/model.safetensors");
  test::write_file(folder / "model/model.safetensors", bytes);
  expect_sentence(error_of([&] { quantize_model(folder / "model", folder / "out"); }),
                  {"model.layers.1.mlp.up_proj.weight", "row 1", "finite"});
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"model"});
}

}  // namespace
}  // namespace indexshare
