// SPDX-License-Identifier: Apache-2.0
// The cost model against GLM-5.2's published table, and its exact form against a plain count.
#include "analysis/flops.h"
#include "analysis/cache_bytes.h"

#include <gtest/gtest.h>

#include <set>

#include "analysis/cache_bytes.h"
#include "model/config_fixtures.h"

namespace indexshare {
namespace {

const ModelConfig& glm() {
  static const ModelConfig config = load_model_config(test::config_path("glm-5.2"));
  return config;
}

struct DecodeRow {
  int64_t context;
  double every_layer, shared;  // GFLOP, MHA form
  double ratio, ratio_absorbed;
};

TEST(Flops, Glm52Decode) {
  const DecodeRow rows[] = {{4096, 94.8, 91.8, 1.03, 1.03},     {8192, 97.4, 92.5, 1.05, 1.05},
                            {16384, 102.6, 93.9, 1.09, 1.08},   {32768, 113.1, 96.7, 1.17, 1.15},
                            {65536, 134.0, 102.3, 1.31, 1.28},  {131072, 175.9, 113.6, 1.55, 1.50},
                            {202752, 221.7, 125.9, 1.76, 1.70}, {262144, 259.6, 136.2, 1.91, 1.83},
                            {524288, 427.1, 181.3, 2.36, 2.27}, {1000000, 731.1, 263.1, 2.78, 2.70},
                            {1048576, 762.1, 271.5, 2.81, 2.73}};
  for (const DecodeRow& row : rows) {
    const PlanCost cost = decode_flops(glm(), row.context, AttentionForm::mha);
    EXPECT_NEAR(cost.every_layer / 1e9, row.every_layer, 0.051) << row.context;
    EXPECT_NEAR(cost.shared / 1e9, row.shared, 0.051) << row.context;
    EXPECT_NEAR(cost.ratio(), row.ratio, 0.0051) << row.context;
    EXPECT_NEAR(decode_flops(glm(), row.context, AttentionForm::absorbed).ratio(), row.ratio_absorbed, 0.0051)
        << row.context;
  }
}

struct PrefillRow {
  int64_t context;
  double every_layer, shared;  // PFLOP, MHA form
  double ratio, digit;         // the unit of the last digit printed
};

TEST(Flops, Glm52Prefill) {
  const PrefillRow rows[] = {{4096, .364, .356, 1.02, .001}, {32768, 3.29, 3.00, 1.10, .01},
                             {131072, 17.3, 13.2, 1.32, .1}, {202752, 31.4, 21.6, 1.45, .1},
                             {262144, 45.6, 29.3, 1.56, .1}, {524288, 135, 70.4, 1.92, 1},
                             {1048576, 446, 188, 2.37, 1}};
  for (const PrefillRow& row : rows) {
    const PlanCost cost = prefill_flops(glm(), row.context, AttentionForm::mha);
    EXPECT_NEAR(cost.every_layer / 1e15, row.every_layer, 0.51 * row.digit) << row.context;
    EXPECT_NEAR(cost.shared / 1e15, row.shared, 0.51 * row.digit) << row.context;
    EXPECT_NEAR(cost.ratio(), row.ratio, 0.0051) << row.context;
  }
}

TEST(Flops, TwentyIndexersGiveThePublishedRatio) {
  ModelConfig config = glm();
  std::string pattern = config.plan.pattern();
  pattern[2] = 'S';
  config.plan = SharePlan::from_pattern(pattern, 78, "p");
  EXPECT_NEAR(decode_flops(config, 1 << 20, AttentionForm::mha).ratio(), 2.90, 0.0051);
}

TEST(Flops, Glm52CacheBytes) {
  const CacheBytes bytes = cache_bytes_per_token(glm(), RowFormat::bf16, RowFormat::bf16);
  EXPECT_EQ(bytes.mla, 78 * 1152);
  EXPECT_EQ(bytes.index_keys, 21 * 256);
  EXPECT_EQ(bytes.index_keys_every_layer, 78 * 256);
  EXPECT_EQ(bytes.mtp_mla, 1152);
  EXPECT_EQ(bytes.mtp_index_keys, 256);
  EXPECT_EQ(cache_bytes_per_token(glm(), RowFormat::f32, RowFormat::f32).mla, 78 * 2304);
}

TEST(Flops, ActiveParametersOfGlm52) { EXPECT_EQ(parameter_counts(glm()).active, 40'297'758'720); }

TEST(Flops, ForwardIsDecodeRowByRowWhereEverythingIsScored) {
  const int64_t context = 300'000;
  const Flops flops = forward_flops(glm(), context - 1, 1, 1);
  EXPECT_DOUBLE_EQ(static_cast<double>(flops.total()),
                   decode_flops(glm(), context, AttentionForm::absorbed).shared);
}

TEST(Flops, ForwardIsPrefillLessTheUnscoredRows) {
  const int64_t context = 5000, topk = 2048;
  const Flops flops = forward_flops(glm(), 0, context, 1);
  const double unscored = 21.0 * 2 * 32 * 128 * (topk * (topk + 1) / 2);
  EXPECT_DOUBLE_EQ(static_cast<double>(flops.total()) + unscored,
                   prefill_flops(glm(), context, AttentionForm::absorbed).shared);
}

TEST(Flops, ForwardAddsUpOverChunks) {
  const Flops whole = forward_flops(glm(), 2000, 100, 3), first = forward_flops(glm(), 2000, 60, 1),
              second = forward_flops(glm(), 2060, 40, 2);
  EXPECT_EQ(whole.total(), first.total() + second.total());
  EXPECT_EQ(whole.index_scores, first.index_scores + second.index_scores);
  EXPECT_EQ(forward_flops(glm(), 5, 0, 0), Flops{});
}

TEST(Flops, RowsOfAtMostTopkKeysAreUnscored) {
  EXPECT_EQ(forward_flops(glm(), 0, 2048, 0).index_scores, 0u);
  EXPECT_EQ(forward_flops(glm(), 2048, 1, 0).index_scores, 21ull * 2 * 32 * 128 * 2049);
}

TEST(Flops, DenseAttentionSelectsNothing) {
  const Flops flops = forward_flops(glm(), 9999, 1, 0, AttentionMode::dense);
  EXPECT_EQ(flops.index_scores + flops.indexer_projections, 0u);
  EXPECT_EQ(flops.attention, 78ull * 2 * 64 * (576 + 512) * 10'000);
}

TEST(Flops, OtherShapes) {
  // Everything dense, no shared expert, a tied head: still multiplied with.
  const ModelConfig dense = test::parse_changed(
      "glm-5.2", R"({"mlp_layer_types":null,"first_k_dense_replace":78,"tie_word_embeddings":true})");
  const Flops flops = forward_flops(dense, 0, 1, 1);
  EXPECT_EQ(flops.mlp, 78ull * 2 * 3 * 6144 * 12288);
  EXPECT_EQ(flops.head, 2ull * 6144 * 154880);
  const ModelConfig deepseek = load_model_config(test::config_path("deepseek-v3.2"));
  EXPECT_EQ(forward_flops(deepseek, 131071, 1, 0).index_scores, 61ull * 2 * 64 * 128 * 131072);
}

TEST(Flops, NoIndexer) {
  const ModelConfig config =
      test::parse_changed("glm-5.2", R"({"index_topk":0,"index_fixed_pattern":{"window":64,"sinks":4}})");
  const Flops flops = forward_flops(config, 1000, 1, 0);
  EXPECT_EQ(flops.index_scores + flops.indexer_projections, 0u);
  EXPECT_EQ(flops.attention, 78ull * 2 * 64 * (576 + 512) * 68);
  EXPECT_EQ(cache_bytes_per_token(config, RowFormat::bf16, RowFormat::bf16).index_keys_every_layer, 0);
  EXPECT_EQ(decode_flops(config, 1000, AttentionForm::mha).ratio(), 1);
}

// Fix(t) written out position by position.
int64_t counted(const FixedPattern& p, int64_t t) {
  std::set<int64_t> strided, fixed;
  for (int64_t s = 0; s <= t; ++s) {
    if (t - s < p.window || s < p.sinks) fixed.insert(s);
    if (p.stride > 0 && s % p.stride == p.stride_phase) strided.insert(s);
  }
  int64_t left = p.stride_cap > 0 ? p.stride_cap : t + 1;
  for (auto s = strided.rbegin(); s != strided.rend() && left > 0; ++s, --left) fixed.insert(*s);
  return static_cast<int64_t>(fixed.size());
}

TEST(Flops, FixedSetSizeIsThePlainCount) {
  for (const int64_t window : {0, 1, 5, 100})
    for (const int64_t sinks : {0, 1, 3, 100})
      for (const int64_t stride : {0, 1, 4, 7})
        for (const int64_t phase : {0, 1, 6})
          for (const int64_t cap : {0, 1, 3}) {
            if (phase >= std::max<int64_t>(stride, 1)) continue;
            const FixedPattern pattern = {
                .window = window, .sinks = sinks, .stride = stride, .stride_phase = phase, .stride_cap = cap};
            for (int64_t t = 0; t < 40; ++t)
              ASSERT_EQ(fixed_set_size(pattern, t), counted(pattern, t))
                  << "W " << window << " G " << sinks << " S " << stride << " r " << phase << " cap " << cap
                  << " t " << t;
          }
}

TEST(Flops, PatternsEnlargeTheSelection) {
  const ModelConfig config =
      test::parse_changed("glm-5.2", R"({"index_fixed_pattern":{"window":64,"sinks":4,"stride":512}})");
  const int64_t t = 9999, fixed = fixed_set_size(config.pattern, t);
  EXPECT_EQ(forward_flops(config, t, 1, 0).attention,
            78ull * 2 * 64 * (576 + 512) * static_cast<uint64_t>(2048 + fixed));
  double sum = 0;
  for (int64_t row = 0; row < 3000; ++row)
    sum += static_cast<double>(std::min<int64_t>(row + 1, 2048 + fixed_set_size(config.pattern, row)));
  const double extra = prefill_flops(config, 3000, AttentionForm::mha).shared -
                       prefill_flops(glm(), 3000, AttentionForm::mha).shared;
  const double plain = 2048.0 * 2049 / 2 + 952.0 * 2048;
  EXPECT_DOUBLE_EQ(extra, 78.0 * 2 * 64 * 512 * (sum - plain));
}

}  // namespace
}  // namespace indexshare
