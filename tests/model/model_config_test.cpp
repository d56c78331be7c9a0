// SPDX-License-Identifier: Apache-2.0
// What config.json turns into, and bad inputs 33 to 43 by number. Files live in tests/fixtures/configs.
#include "model/model_config.h"

#include <gtest/gtest.h>

#include "checkpoint/bad_files.h"
#include "model/config_fixtures.h"

namespace indexshare {
namespace {

using test::changed;
using test::expect_sentence;
using test::parse_changed;

// The message of GLM-5.2's config after `patch`.
std::string message_of(const std::string& patch) {
  return test::error_of([&] { parse_changed("glm-5.2", patch); });
}

std::string message_of_text(const std::string& text) {
  return test::error_of([&] { parse_model_config(text, "config.json"); });
}

ModelConfig overridden(const std::string& overrides, const std::string& patch = "{}") {
  return parse_model_config(changed("glm-5.2", patch), "config.json", overrides);
}

TEST(ModelConfig, OverridesReplaceTheSharePlan) {
  const std::string short_plan = R"({"num_hidden_layers":4,"indexer_types":["full","full","full","shared"],
    "mlp_layer_types":["dense","dense","dense","sparse"]})";
  EXPECT_EQ(overridden(R"({"index_topk_pattern":"FSFS"})", short_plan).plan.pattern(), "FSFS");
  EXPECT_EQ(overridden(R"({"index_topk_pattern":["F","S","F","S"]})", short_plan).plan.pattern(), "FSFS");
  EXPECT_EQ(overridden(R"({"indexer_types":["full","shared","shared","shared"]})", short_plan).plan.pattern(),
            "FSSS");
  EXPECT_EQ(overridden(R"({"index_topk_freq":2})", short_plan).plan.pattern(), "FFFS");  // offset 3 stays
  EXPECT_EQ(overridden(R"({"index_topk_freq":2,"index_skip_topk_offset":1})", short_plan).plan.pattern(),
            "FSFS");
  EXPECT_EQ(overridden(R"({"index_skip_topk_offset":2})", short_plan).plan.pattern(), "FFSS");
  EXPECT_EQ(overridden(R"({"index_topk_freq":1})").plan.num_full(), 78);
}

TEST(ModelConfig, OverridesAreAMergePatch) {
  const ModelConfig config =
      overridden(R"({"rope_parameters":{"rope_theta":1000000},"auto_map":null,"index_topk":64})");
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.indexer.topk, 64);
  EXPECT_EQ(config.plan.num_full(), 21);
}

TEST(ModelConfig, AnOverrideThatNothingReadsIsAnError) {
  const std::string message =
      test::error_of([] { overridden(R"({"index_tpok":64})"); }, ErrorCode::invalid_argument);
  expect_sentence(message, {"--hf-overrides", "index_tpok"});
  overridden(R"({"index_topk_freq":1,"index_topk_pattern":null})");  // not all encodings of a plan are read
  overridden(R"({"transformers_version":"5.17.0"})", R"({"transformers_version":"5.0.0"})");
}

TEST(ModelConfig, BadOverridesAreTheCallersMistake) {
  for (const char* overrides : {"[]", "{", "4", "{\"a\":1,\"a\":2}"}) {
    const std::string message = test::error_of([&] { overridden(overrides); }, ErrorCode::invalid_argument);
    expect_sentence(message, {"--hf-overrides"});
  }
  expect_sentence(test::error_of([] { overridden(R"({"index_topk":"64"})"); }),
                  {"--hf-overrides", "index_topk"});
}

TEST(ModelConfig, FixedPattern) {
  const ModelConfig config = overridden(
      R"({"index_fixed_pattern":{"window":64,"sinks":4,"stride":512,"stride_phase":7,"stride_cap":9,"mode":"union"}})");
  EXPECT_EQ(config.pattern.window, 64);
  EXPECT_EQ(config.pattern.sinks, 4);
  EXPECT_EQ(config.pattern.stride, 512);
  EXPECT_EQ(config.pattern.stride_phase, 7);
  EXPECT_EQ(config.pattern.stride_cap, 9);
  EXPECT_EQ(config.pattern.mode, FixedPattern::Mode::union_);
  EXPECT_FALSE(overridden("{}").pattern.active());
}

TEST(ModelConfig, NoIndexerBesideAPatternThatIsNeverEmpty) {
  for (const char* pattern : {R"({"window":1})", R"({"sinks":1})", R"({"stride":64})", R"({"stride":1})"}) {
    const ModelConfig config =
        overridden(R"({"index_topk":0,"index_fixed_pattern":)" + std::string(pattern) + "}");
    EXPECT_EQ(config.indexer.topk, 0);
    EXPECT_EQ(config.plan.full_layers(), std::vector<int>{0});
  }
  const std::string with_phase = R"({"index_topk":0,"index_fixed_pattern":{"stride":64,"stride_phase":1}})";
  expect_sentence(message_of(with_phase), {"index_topk", "at least 1", "index_fixed_pattern", "found 0"});
}

TEST(ModelConfig, OptionalFields) {
  EXPECT_EQ(overridden("{}").lora_norm_eps, 1e-6f);
  EXPECT_EQ(overridden(R"({"lora_norm_eps":1e-5})").lora_norm_eps, 1e-5f);
  EXPECT_TRUE(overridden(R"({"tie_word_embeddings":true})").tied_head);
  EXPECT_EQ(overridden(R"({"eos_token_id":7})").eos_token_ids, std::vector<int32_t>{7});
  EXPECT_TRUE(overridden(R"({"eos_token_id":null})").eos_token_ids.empty());
  const ModelConfig shrunken = overridden(R"({"vocab_size":154825})");
  EXPECT_EQ(shrunken.eos_token_ids, std::vector<int32_t>{154820});
  expect_sentence(shrunken.notes.back(), {"eos_token_id", "2 of 3", "154825"});
}

TEST(ModelConfig, Dtype) {
  for (const char* dtype : {"float32", "float16", "bfloat16", "float8_e4m3fn"}) {
    const std::string value = "\"" + std::string(dtype) + "\"}";
    EXPECT_EQ(parse_changed("glm-5.2", "{\"dtype\":" + value).weights_dtype, dtype);
    EXPECT_EQ(parse_changed("glm-5.2", "{\"dtype\":null,\"torch_dtype\":" + value).weights_dtype, dtype);
    EXPECT_EQ(parse_changed("glm-5.2", "{\"torch_dtype\":" + value).weights_dtype, "bfloat16");
  }
  EXPECT_EQ(parse_changed("glm-5.2", R"({"dtype":null})").weights_dtype, "");
}

TEST(ModelConfig, LayerKinds) {
  const std::string no_list = R"("mlp_layer_types":null)";
  const auto kinds = [&](const std::string& rest) {
    const auto moe = parse_changed("glm-5.2", "{" + no_list + "," + rest + "}").is_moe_layer;
    return std::vector<bool>(moe.begin(), moe.begin() + 5);
  };
  EXPECT_EQ(kinds(R"("first_k_dense_replace":2)"), (std::vector<bool>{false, false, true, true, true}));
  EXPECT_EQ(kinds(R"("first_k_dense_replace":1,"moe_layer_freq":2)"),
            (std::vector<bool>{false, false, true, false, true}));
  const ModelConfig dense = parse_changed(
      "glm-5.2",
      R"({"mlp_layer_types":null,"first_k_dense_replace":78,"n_routed_experts":null,"topk_group":null})");
  EXPECT_EQ(dense.moe.num_experts, 0);
  const ModelConfig sparse = parse_changed(
      "glm-5.2", R"({"mlp_layer_types":null,"first_k_dense_replace":0,"intermediate_size":null})");
  EXPECT_EQ(sparse.dense_dim, 0);
}

class BadConfig : public test::BadInput {};

TEST_F(BadConfig, Input33NotAnObject) {
  expect_sentence(message_of_text("[1]"), {"config.json", "object", "array"});
  expect_sentence(message_of_text(""), {"config.json", "empty"});
  expect_sentence(message_of_text("\xef\xbb\xbf{}"), {"config.json", "byte order mark"});
  expect_sentence(message_of_text(std::string("{}\0{}", 5)), {"config.json", "JSON"});
  const test::TempDir folder;
  test::write_file(folder / "config.json", "");
  std::filesystem::resize_file(folder / "config.json", 200'000'000);  // sparse
  expect_sentence(test::error_of([&] { load_model_config(folder.path()); }),
                  {"config.json", "found 200000000"});
  std::filesystem::remove(folder / "config.json");
  expect_sentence(test::error_of([&] { load_model_config(folder.path()); }, ErrorCode::not_found),
                  {"config.json"});
}

TEST_F(BadConfig, Input34UnknownModel) {
  expect_sentence(message_of(R"({"model_type":"llama"})"),
                  {"config.json", "model_type", "\"glm_moe_dsa\" or \"deepseek_v32\"", "\"llama\""});
  expect_sentence(message_of(R"({"model_type":null})"), {"model_type", "found nothing"});
  expect_sentence(message_of(R"({"architectures":["LlamaForCausalLM"]})"),
                  {"architectures", "GlmMoeDsaForCausalLM"});
  expect_sentence(message_of(R"({"architectures":[]})"), {"architectures", "array of 0"});
}

TEST_F(BadConfig, Input35NumberOfLayers) {
  for (const char* layers : {"0", "-1", "1000000000", "78.0", "9223372036854775808"})
    expect_sentence(message_of("{\"num_hidden_layers\":" + std::string(layers) + "}"),
                    {"config.json", "num_hidden_layers", "integer from 1 to", "found"});
}

TEST_F(BadConfig, Input36IndexerTypes) {
  expect_sentence(message_of(R"({"indexer_types":["full"]})"),
                  {"config.json", "indexer_types", "78", "found 1"});
  // A list that also counts the MTP layer is refused: which end is the surplus would be a guess.
  expect_sentence(message_of(R"({"num_hidden_layers":77})"), {"mlp_layer_types", "77"});
  const std::string one = R"({"num_hidden_layers":1,"mlp_layer_types":["dense"],"indexer_types":)";
  expect_sentence(message_of(one + R"(["none"]})"), {"config.json", "indexer_types[0]", "\"none\""});
  expect_sentence(message_of(one + R"(["shared"]})"),
                  {"config.json", "indexer_types[0]", "found \"shared\""});
  expect_sentence(message_of(one + R"([1]})"), {"config.json", "indexer_types[0]", "found 1"});
  expect_sentence(message_of(one + R"("full"})"), {"config.json", "indexer_types", "array"});
}

TEST_F(BadConfig, Input37Pattern) {
  const std::string two =
      R"({"num_hidden_layers":2,"mlp_layer_types":["dense","dense"],"indexer_types":null,)";
  expect_sentence(message_of(two + R"("index_topk_pattern":"FSS"})"),
                  {"config.json", "index_topk_pattern", "found 3"});
  expect_sentence(message_of(two + R"("index_topk_pattern":"fs"})"), {"index_topk_pattern", "0x66 at 0"});
  expect_sentence(message_of(two + R"("index_topk_pattern":["F","x"]})"), {"index_topk_pattern[1]", "\"x\""});
  expect_sentence(message_of(two + R"("index_topk_pattern":7})"), {"index_topk_pattern", "found 7"});
  expect_sentence(message_of(R"({"index_topk_pattern":")" + std::string(78, 'F') + "\"}"),
                  {"index_topk_pattern", "indexer_types"});
}

TEST_F(BadConfig, Input38TopkAndFrequency) {
  expect_sentence(message_of(R"({"index_topk":0})"), {"config.json", "index_topk", "at least 1", "found 0"});
  expect_sentence(message_of(R"({"index_topk":-1})"), {"index_topk", "found -1"});
  expect_sentence(message_of(R"({"index_topk":1048577})"),
                  {"index_topk", "max_position_embeddings = 1048576"});
  expect_sentence(message_of(R"({"indexer_types":null,"index_topk_freq":0})"),
                  {"index_topk_freq", "found 0"});
  expect_sentence(message_of(R"({"indexer_types":null,"index_skip_topk_offset":-2})"),
                  {"index_skip_topk_offset"});
}

TEST_F(BadConfig, Input39HeadDims) {
  for (const char* key : {"qk_nope_head_dim", "v_head_dim", "index_head_dim", "kv_lora_rank", "q_lora_rank"})
    expect_sentence(message_of("{\"" + std::string(key) + "\":0,\"qk_head_dim\":null}"), {key, "found 0"});
  expect_sentence(message_of(R"({"qk_rope_head_dim":63,"qk_head_dim":null})"),
                  {"qk_rope_head_dim", "even", "63"});
  expect_sentence(message_of(R"({"index_head_dim":32})"), {"index_head_dim", "qk_rope_head_dim = 64"});
  const ModelConfig config = parse_changed("glm-5.2", "{}");
  ASSERT_EQ(config.notes.size(), 1u);
  expect_sentence(config.notes[0], {"head_dim 192 is ignored"});
}

TEST_F(BadConfig, Input40Experts) {
  expect_sentence(message_of(R"({"num_experts_per_tok":257})"),
                  {"num_experts_per_tok", "n_routed_experts = 256"});
  expect_sentence(message_of(R"({"n_group":3})"), {"n_group", "divisor", "found 3"});
  expect_sentence(message_of(R"({"n_group":4,"topk_group":5})"), {"topk_group", "n_group = 4", "found 5"});
  expect_sentence(message_of(R"({"n_group":64,"topk_group":1})"),
                  {"num_experts_per_tok", "at most the 4 experts"});
  expect_sentence(message_of(R"({"scoring_func":"softmax"})"), {"scoring_func", "sigmoid"});
  expect_sentence(message_of(R"({"topk_method":"greedy"})"), {"topk_method", "noaux_tc"});
}

TEST_F(BadConfig, Input41RopeAndPositions) {
  expect_sentence(message_of(R"({"rope_parameters":{"rope_theta":0}})"),
                  {"rope_parameters.rope_theta", "found 0"});
  expect_sentence(message_of_text(R"({"model_type":"glm_moe_dsa","rope_theta":NaN})"),
                  {"config.json", "JSON"});
  // Positions are int32: refused where it is read, long before a cache would be sized.
  expect_sentence(message_of(R"({"max_position_embeddings":1099511627776})"),
                  {"max_position_embeddings", "to 2147483647", "found 1099511627776"});
  EXPECT_EQ(parse_changed("glm-5.2", R"({"max_position_embeddings":2147483647})").max_positions, 2147483647);
}

TEST_F(BadConfig, Input42AutoMapIsNotedAndNeverRun) {
  const ModelConfig config = parse_changed("glm-5.2", R"({"auto_map":{"AutoModel":"evil.Evil"}})");
  expect_sentence(config.notes.back(), {"auto_map", "never run"});
}

TEST_F(BadConfig, Input43NumbersThatAreNot) {
  expect_sentence(message_of(R"({"hidden_size":"6144"})"), {"hidden_size", "integer", "the string \"6144\""});
  expect_sentence(message_of(R"({"rms_norm_eps":"1e-5"})"), {"rms_norm_eps", "number", "string"});
  expect_sentence(message_of(R"({"rms_norm_eps":-0.0})"), {"rms_norm_eps", "at least", "found -0.0"});
  expect_sentence(message_of(R"({"hidden_size":-0.0})"), {"hidden_size", "integer"});
  expect_sentence(message_of_text(R"({"hidden_size":1e400})"), {"config.json", "range"});
  expect_sentence(message_of_text(R"({"hidden_size":1,"hidden_size":2})"),
                  {"config.json", "hidden_size", "twice"});
}

TEST_F(BadConfig, MissingFieldsAreNamed) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
        "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim",
        "v_head_dim", "n_routed_experts", "num_experts_per_tok", "routed_scaling_factor", "rms_norm_eps",
        "max_position_embeddings", "index_n_heads", "index_head_dim", "index_topk"})
    expect_sentence(message_of("{\"" + std::string(key) + "\":null}"),
                    {"config.json: " + std::string(key), "nothing"});
}

TEST_F(BadConfig, OtherMathematicsIsRefused) {
  const std::pair<const char*, const char*> cases[] = {{"hidden_act", "\"gelu\""},
                                                       {"mlp_bias", "true"},
                                                       {"swiglu_limit", "10"},
                                                       {"index_kpool", "4"},
                                                       {"layer_types", "[\"full_attention\"]"},
                                                       {"partial_rotary_factor", "0.5"}};
  for (const auto& [key, value] : cases)
    expect_sentence(message_of("{\"" + std::string(key) + "\":" + value + "}"),
                    {"config.json", key, "found"});
}

TEST_F(BadConfig, UnknownDtype) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const std::string field = "{\"" + std::string(key) + "\":";
    for (const char* dtype : {"bfloat61", "torch.bfloat16", "float64", "int8", ""})
      expect_sentence(
          message_of(field + "\"" + dtype + "\"}"),
          {"config.json: " + std::string(key), "\"bfloat16\"", "found the string \"" + std::string(dtype)});
    expect_sentence(message_of(field + "16}"), {key, "expected a string", "found 16"});
  }
}

TEST_F(BadConfig, QuantizationOtherThanOurs) {
  for (const char* method : {"awq", "gptq", "modelopt", "bitsandbytes"})
    expect_sentence(message_of(R"({"quantization_config":{"quant_method":")" + std::string(method) + "\"}}"),
                    {"quantization_config.quant_method", "fp8", method});
  const std::string fp8 = R"({"quantization_config":{"quant_method":"fp8",)";
  expect_sentence(message_of(fp8 + R"("fmt":"e5m2","weight_block_size":[128,128]}})"),
                  {"fmt", "e4m3", "e5m2"});
  expect_sentence(message_of(fp8 + R"("fmt":"e4m3","weight_block_size":[64,128]}})"),
                  {"weight_block_size", "[128"});
  expect_sentence(message_of(fp8 + R"("fmt":"e4m3"}})"), {"weight_block_size", "nothing"});
}

// A pack-quantized config of one group whose weights have `field`, after the usual ones.
std::string packed(const std::string& field, const std::string& group = "", const std::string& format = "") {
  const std::string weights =
      R"({"num_bits":4,"type":"int","symmetric":true,"strategy":"group","group_size":64})";
  Json json = parse_json(R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":
                             {"group_0":{"targets":["Linear"],"weights":)" +
                             weights + "}}}",
                         "test");
  Json& of_group = json["config_groups"]["group_0"];
  if (!field.empty()) of_group["weights"].merge_patch(parse_json("{" + field + "}", "test"));
  if (!group.empty()) of_group.merge_patch(parse_json("{" + group + "}", "test"));
  if (!format.empty()) json.merge_patch(parse_json("{" + format + "}", "test"));
  return "{\"quantization_config\":" + json.dump() + "}";
}

TEST(ModelConfig, PackedWeights) {
  const ModelConfig four = parse_changed("glm-5.2", packed(""));
  EXPECT_EQ(four.weights_dtype, "int4");
  EXPECT_EQ(four.packed_schemes, (std::vector<PackedScheme>{{.num_bits = 4, .group_size = 64}}));
  const ModelConfig channels =
      parse_changed("glm-5.2", packed(R"("num_bits":8,"strategy":"channel","group_size":null)"));
  EXPECT_EQ(channels.weights_dtype, "int8");
  EXPECT_EQ(channels.packed_schemes, (std::vector<PackedScheme>{{.num_bits = 8, .group_size = 0}}));
}

TEST_F(BadConfig, PackedWeightsOfOtherKinds) {
  const std::tuple<std::string, std::string, std::string> weights[] = {
      {R"("num_bits":3)", "num_bits", "3"},
      {R"("symmetric":false)", "symmetric", "false"},
      {R"("type":"float")", "type", "float"},
      {R"("strategy":"tensor")", "strategy", "tensor"},
      {R"("actorder":"group")", "actorder", "group"},
      {R"("group_size":0)", "group_size", "0"},
      {R"("group_size":null)", "group_size", "nothing"}};
  for (const auto& [field, name, found] : weights)
    expect_sentence(message_of(packed(field)), {"config_groups.group_0.weights." + name, "expected", found});
  expect_sentence(message_of(packed("", R"("input_activations":{"num_bits":8})")),
                  {"group_0.input_activations", "expected null"});
  expect_sentence(message_of(packed("", "", R"("format":"int-quantized")")), {"format", "pack-quantized"});
  expect_sentence(message_of(packed("", "", R"("config_groups":{"group_0":null})")),
                  {"config_groups", "1 to 16"});
}

TEST_F(BadConfig, FixedPattern) {
  const auto message = [](const std::string& section) {
    return message_of("{\"index_fixed_pattern\":" + section + "}");
  };
  expect_sentence(message(R"({"windw":4})"), {"config.json", "index_fixed_pattern", "windw"});
  expect_sentence(message(R"({"window":-1})"), {"index_fixed_pattern.window", "found -1"});
  expect_sentence(message(R"({"stride":4,"stride_phase":4})"), {"stride_phase", "less than stride = 4"});
  expect_sentence(message(R"({"stride_cap":4})"), {"stride_cap", "no stride"});
  expect_sentence(message(R"({"mode":"both"})"), {"mode", "\"fill\" or \"union\""});
  expect_sentence(message("[]"), {"index_fixed_pattern", "object"});
}

}  // namespace
}  // namespace indexshare
