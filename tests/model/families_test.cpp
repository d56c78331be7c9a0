// SPDX-License-Identifier: Apache-2.0
// The released configurations of both families, resolved.
#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint/bad_files.h"
#include "model/config_fixtures.h"

namespace indexshare {
namespace {

using test::parse_changed;

TEST(Families, Glm52) {
  const ModelConfig config = load_model_config(test::config_path("glm-5.2"));
  EXPECT_EQ(config.family, "glm_moe_dsa");
  EXPECT_EQ(config.num_layers, 78);
  EXPECT_EQ(config.num_mtp_layers, 1);
  EXPECT_EQ(config.plan.source, SharePlan::from_frequency(4, 3, 78).source);
  EXPECT_EQ(config.softmax_scale, 1.0f / 16);
  EXPECT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_EQ(config.rope.theta, 8e6);
  EXPECT_EQ(config.rope.yarn_factor, 1);
  EXPECT_EQ(config.rope_layout, RopeLayout::interleaved);
  EXPECT_EQ(config.indexer.rope_layout, RopeLayout::interleaved);
  EXPECT_EQ(config.is_moe_layer[2], false);
  EXPECT_EQ(config.is_moe_layer[3], true);
  EXPECT_EQ(config.moe.num_groups, 1);
  EXPECT_EQ(config.eos_token_ids, (std::vector<int32_t>{154820, 154827, 154829}));
  EXPECT_EQ(config.latent_row_dim(), 576);
  EXPECT_EQ(config.weights_dtype, "bfloat16");
  EXPECT_TRUE(config.share_draft_index);
  EXPECT_EQ(config.draft_hidden, DraftHidden::normed);
}

// GLM-5 and 5.1: the same without the keys that share.
TEST(Families, Glm5HasAnIndexerInEveryLayer) {
  const ModelConfig config =
      parse_changed("glm-5.2", R"({"indexer_types":null,"index_topk_freq":null,"index_skip_topk_offset":null,
                     "indexer_rope_interleave":null,"max_position_embeddings":202752,"rope_parameters":null,
                     "rope_theta":1000000})");
  EXPECT_EQ(config.plan.num_full(), 78);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.indexer.rope_layout, RopeLayout::interleaved);
}

TEST(Families, DeepseekV32) {
  const ModelConfig config = load_model_config(test::config_path("deepseek-v3.2"));
  EXPECT_FALSE(config.share_draft_index);
  EXPECT_EQ(config.draft_hidden, DraftHidden::residual);
  EXPECT_EQ(config.family, "deepseek_v32");
  EXPECT_EQ(config.plan.num_full(), 61);
  EXPECT_EQ(config.rope_layout, RopeLayout::interleaved);
  EXPECT_EQ(config.indexer.rope_layout, RopeLayout::half_split);
  EXPECT_EQ(config.moe.num_groups, 8);
  EXPECT_EQ(config.moe.groups_per_token, 4);
  EXPECT_EQ(config.rope.yarn_factor, 40);
  EXPECT_EQ(config.rope.yarn_original_positions, 4096);
  EXPECT_NEAR(config.softmax_scale * std::sqrt(192.0), 1.8739, 1e-4);
  EXPECT_EQ(config.weights_dtype, "fp8");
  EXPECT_TRUE(config.notes.empty());
}

TEST(Families, IndexerRopeLayoutOfTheConfigWins) {
  EXPECT_EQ(parse_changed("glm-5.2", R"({"indexer_rope_interleave":false})").indexer.rope_layout,
            RopeLayout::half_split);
  EXPECT_EQ(parse_changed("deepseek-v3.2", R"({"indexer_rope_interleave":true})").indexer.rope_layout,
            RopeLayout::interleaved);
}

TEST(Families, DeepseekNeedsItsGroups) {
  test::expect_sentence(test::error_of([] { parse_changed("deepseek-v3.2", R"({"n_group":null})"); }),
                        {"n_group"});
}

TEST(Families, DeepseekCanShareToo) {
  EXPECT_EQ(parse_changed("deepseek-v3.2", R"({"index_topk_freq":4})").plan.num_full(), 16);
}

TEST(Families, RopeOfTransformers5EqualsTheOlderForm) {
  const ModelConfig older = load_model_config(test::config_path("deepseek-v3.2"));
  const ModelConfig newer = parse_changed(
      "deepseek-v3.2", R"({"rope_theta":null,"rope_scaling":null,"rope_parameters":{"rope_type":"yarn",
      "rope_theta":10000,"factor":40,"original_max_position_embeddings":4096,"mscale":1,"mscale_all_dim":1}})");
  EXPECT_EQ(newer.softmax_scale, older.softmax_scale);
  EXPECT_EQ(newer.rope.theta, older.rope.theta);
  EXPECT_EQ(newer.rope.yarn_factor, older.rope.yarn_factor);
  EXPECT_EQ(newer.rope.yarn_beta_fast, older.rope.yarn_beta_fast);
}

TEST(Families, YarnAmplitudeOfCosAndSin) {
  const auto amplitude = [](const std::string& yarn) {
    return parse_changed("deepseek-v3.2", "{\"rope_scaling\":" + yarn + "}").rope.yarn_amplitude;
  };
  const double log_factor = std::log(40.0);
  EXPECT_EQ(amplitude("{}"), 1);  // DeepSeek's mscale and mscale_all_dim are equal
  EXPECT_DOUBLE_EQ(amplitude(R"({"mscale":0.5})"), (0.05 * log_factor + 1) / (0.1 * log_factor + 1));
  EXPECT_DOUBLE_EQ(amplitude(R"({"mscale":null})"), 0.1 * log_factor + 1);
  EXPECT_EQ(amplitude(R"({"attention_factor":2})"), 2);
}

TEST(Families, RopeThatIsNotComputed) {
  const auto message = [](const std::string& rope) {
    return test::error_of([&] { parse_changed("deepseek-v3.2", "{\"rope_scaling\":" + rope + "}"); });
  };
  test::expect_sentence(message(R"({"type":"linear"})"), {"rope_scaling.type", "yarn", "linear"});
  test::expect_sentence(message(R"({"factor":0.5})"), {"rope_scaling.factor", "at least 1"});
  test::expect_sentence(message(R"({"rope_theta":500})"),
                        {"rope_theta", "500 as rope_scaling.rope_theta says"});
}

}  // namespace
}  // namespace indexshare
