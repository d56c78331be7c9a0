// SPDX-License-Identifier: Apache-2.0
// The engine's counters against the closed form of analysis/flops.h, to the last operation.
#include <gtest/gtest.h>

#include "analysis/draft_flops.h"
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

void add(Flops& sum, const Flops& more) {
  sum.projections += more.projections;
  sum.indexer_projections += more.indexer_projections;
  sum.index_scores += more.index_scores;
  sum.attention += more.attention;
  sum.mlp += more.mlp;
  sum.head += more.head;
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
    add(derived, forward_flops(config, position, 1, 1));
  }
  expect_equal(e->counters().flops, derived);
  EXPECT_EQ(e->counters().indexer_passes, 4u * 6u);
}

// Over a known text every row begins a round of three drafts.
TEST(Counters, DraftingHasAFormulaOfItsOwn) {
  constexpr int64_t kLength = 60, kDrafts = 3;
  for (const char* model : {"tiny-glm-mtp", "tiny-deepseek-mtp"})
    for (const bool share : {true, false})
      for (const AttentionMode mode : {AttentionMode::sparse, AttentionMode::dense}) {
        const std::string overrides = R"({"index_share_for_mtp_iteration":true})";
        const auto e = load(model, {.hf_overrides = overrides,
                                    .attention = mode,
                                    .draft_tokens = kDrafts,
                                    .draft_index_share = share});
        const ModelConfig config = load_model_config(fixture(model), overrides);
        const SequenceId s = e->create_sequence();
        e->evaluate(s, random_tokens(kLength, 3),
                    {.all_rows = false, .draft_sink = [](int64_t, int64_t, std::span<const float>) {}});
        Flops derived = draft_flops(config, 0, kLength - 1, kLength - 1, mode);
        for (int64_t step = 2; step <= kDrafts; ++step)
          for (int64_t anchor = 0; anchor < kLength - step; ++anchor)
            add(derived, later_draft_flops(config, anchor,
                                           share ? DraftSelection::shared : DraftSelection::own, mode));
        SCOPED_TRACE(testing::Message() << model << " share " << share);
        expect_equal(e->counters().drafting.flops, derived);
        expect_equal(e->counters().flops,
                     forward_flops(config, 0, kLength, 0, mode));  // the target's as ever
      }
}

}  // namespace
}  // namespace indexshare
