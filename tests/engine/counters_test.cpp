// SPDX-License-Identifier: Apache-2.0
// The engine's counters against the closed form of analysis/flops.h, to the last operation.
#include <gtest/gtest.h>

#include "analysis/flops.h"
#include "fixture.h"

namespace indexshare {
namespace {

void expect_equal(const Counters::Flops& counted, const Flops& derived) {
  EXPECT_EQ(counted.projections, derived.projections);
  EXPECT_EQ(counted.indexer_projections, derived.indexer_projections);
  EXPECT_EQ(counted.index_scores, derived.index_scores);
  EXPECT_EQ(counted.attention, derived.attention);
  EXPECT_EQ(counted.mlp, derived.mlp);
  EXPECT_EQ(counted.head, derived.head);
  EXPECT_EQ(counted.total(), derived.total());
}

struct Case {
  const char* checkpoint;
  const char* overrides;
  PlanChoice plan = PlanChoice::shared;
  AttentionMode attention = AttentionMode::sparse;
};

TEST(Counters, EqualTheFormulaUnderEveryPlanLengthAndChunking) {
  const char* pattern = R"({"index_fixed_pattern":{"window":5,"sinks":2,"stride":9,"stride_cap":4}})";
  for (const Case& c :
       {Case{"tiny-glm", ""}, Case{"tiny-glm", "", PlanChoice::every_layer}, Case{"tiny-deepseek", ""},
        Case{"tiny-glm", pattern}, Case{"tiny-glm", "", PlanChoice::shared, AttentionMode::dense}})
    for (int64_t length : {1, 7, 8, 9, 100})
      for (int64_t chunk : {512, 6}) {
        const auto e = load(
            c.checkpoint,
            {.chunk_size = chunk, .hf_overrides = c.overrides, .plan = c.plan, .attention = c.attention});
        ModelConfig config = load_model_config(fixture(c.checkpoint), c.overrides);
        if (c.plan == PlanChoice::every_layer) config.plan = SharePlan::every_layer(config.num_layers);
        logits_of(*e, random_tokens(static_cast<size_t>(length), 1));
        SCOPED_TRACE(testing::Message()
                     << c.checkpoint << " " << c.overrides << " length " << length << " chunk " << chunk);
        expect_equal(e->counters().flops, forward_flops(config, 0, length, length, c.attention));
        EXPECT_EQ(e->counters().tokens, static_cast<uint64_t>(length));
      }
}

TEST(Counters, DecodingAddsItsRowsAlone) {
  const auto e = load("tiny-glm");
  const ModelConfig config = load_model_config(fixture("tiny-glm"));
  Request r;
  r.tokens = random_tokens(90, 2);
  r.sampling = {.max_tokens = 6, .temperature = 0, .ignore_eos = true};
  e->generate(r);
  Flops derived = forward_flops(config, 0, 90, 1);
  for (int64_t position = 90; position < 95; ++position) {
    const Flops row = forward_flops(config, position, 1, 1);
    derived.projections += row.projections;
    derived.indexer_projections += row.indexer_projections;
    derived.index_scores += row.index_scores;
    derived.attention += row.attention;
    derived.mlp += row.mlp;
    derived.head += row.head;
  }
  expect_equal(e->counters().flops, derived);
  EXPECT_EQ(e->counters().indexer_passes, 4u * 6u);
}

}  // namespace
}  // namespace indexshare
