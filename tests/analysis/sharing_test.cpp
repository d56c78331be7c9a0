// SPDX-License-Identifier: Apache-2.0
// analyze_sharing on random checkpoints: what must hold whatever the weights are.
#include <gtest/gtest.h>

#include <numeric>

#include "engine/fixture.h"
#include "indexshare/analysis.h"

namespace indexshare {
namespace {

constexpr const char* kPlan = "FFFSSSFS";

SharingReport analyze(const std::string& pattern, SharingOptions options = {},
                      PlanChoice plan = PlanChoice::every_layer, size_t num_tokens = 90) {
  const auto engine = load("tiny-glm", {.chunk_size = 40, .plan = plan});
  options.pattern = pattern;
  return analyze_sharing(*engine, random_tokens(num_tokens, 1), options);
}

const OutputComparison& output(const SharingReport& r, const std::string& reference,
                               const std::string& tested) {
  for (const OutputComparison& c : r.outputs)
    if (c.reference == reference && c.tested == tested) return c;
  throw std::runtime_error(reference + " " + tested);
}

TEST(AnalyzeSharing, BoundsAndOrdersHold) {
  const SharingReport r = analyze(kPlan, {.num_rows = 20});
  EXPECT_TRUE(r.has_own);
  EXPECT_EQ(r.topk, 8);
  EXPECT_EQ(r.num_rows, 20);
  EXPECT_EQ(r.first_row, 8);
  EXPECT_EQ(r.num_output_rows, 90 - 1 - 8);
  ASSERT_EQ(r.per_layer.size(), 8u);
  ASSERT_EQ(r.overlap.size(), 8u);
  for (const LayerSharing& l : r.per_layer) {
    for (const Coverage& c : {*l.own, *l.shared, *l.oracle, l.as_run, l.as_run_oracle}) {
      EXPECT_GT(c.mean, 0);
      EXPECT_LE(c.mean, 1);
      EXPECT_LE(c.worst, c.mean);
    }
    EXPECT_GE(l.oracle->mean, l.own->mean);
    EXPECT_GE(l.oracle->mean, l.shared->mean);
    EXPECT_GE(l.as_run_oracle.mean, l.as_run.mean);
    EXPECT_FALSE(l.needle_own);
    if (l.layer != l.source) {
      EXPECT_LT(l.own_and_shared->share, 1);
      continue;
    }
    EXPECT_EQ(l.own_and_shared->share, 1);
    EXPECT_EQ(l.own->mean, l.shared->mean);
  }
  EXPECT_EQ(r.per_layer[5].source, 2);
  EXPECT_EQ(r.distances.size(), 7u);
  EXPECT_EQ(r.distances[0].num_pairs, 7);
  EXPECT_EQ(r.losses.size(), 3u);
  EXPECT_EQ(r.outputs.size(), 3u);
  EXPECT_GT(output(r, "every_layer", "shared").kl.mean, 0);
  EXPECT_GT(output(r, "dense", "every_layer").kl.mean, 0);
  // Up to layer 2 both plans are the same, and so is what they see.
  EXPECT_EQ(r.per_layer[2].own->mean, r.per_layer[2].as_run.mean);
  EXPECT_NE(r.per_layer[4].own->mean, r.per_layer[4].as_run.mean);
}

TEST(AnalyzeSharing, APlanComparedWithItselfDiffersInNothing) {
  const SharingReport r = analyze("FFFFFFFF", {.num_rows = 5, .dense = false});
  const OutputComparison& c = output(r, "every_layer", "shared");
  EXPECT_EQ(c.kl.mean, 0);
  EXPECT_EQ(c.top1_agreement, 1);
  EXPECT_EQ(c.loss_difference.mean, 0);
  EXPECT_EQ(r.outputs.size(), 1u);
  for (const LayerSharing& l : r.per_layer) EXPECT_EQ(l.own_and_shared->share, 1);
}

TEST(AnalyzeSharing, WithoutOwnSelectionsOnlyFullLayersAreCompared) {
  const SharingReport r = analyze(kPlan, {.num_rows = 7}, PlanChoice::shared);
  EXPECT_FALSE(r.has_own);
  EXPECT_EQ(r.layers, (std::vector<int>{0, 1, 2, 6}));
  EXPECT_EQ(r.overlap.size(), 4u);
  EXPECT_EQ(r.outputs.size(), 1u);
  for (const LayerSharing& l : r.per_layer) {
    EXPECT_FALSE(l.own || l.shared || l.own_and_shared);
    EXPECT_GE(l.as_run_oracle.mean, l.as_run.mean);
  }
  const SharingReport both = analyze(kPlan, {.num_rows = 7});
  EXPECT_EQ(both.per_layer[7].as_run.mean, r.per_layer[7].as_run.mean);
  EXPECT_EQ(output(both, "dense", "shared").kl.mean, output(r, "dense", "shared").kl.mean);
}

TEST(AnalyzeSharing, ANeedleOfEveryPositionIsFoundInProportion) {
  std::vector<int64_t> everything(90);
  std::iota(everything.begin(), everything.end(), 0);
  const SharingReport r = analyze(kPlan, {.num_rows = 3, .needle = everything, .needle_rows = 4});
  for (const LayerSharing& l : r.per_layer) {
    EXPECT_DOUBLE_EQ(*l.needle_own, 8.0 / 90);
    EXPECT_DOUBLE_EQ(*l.needle_as_run, 8.0 / 90);
  }
}

TEST(AnalyzeSharing, LengthsAndOptionsAreChecked) {
  EXPECT_THROW(analyze(kPlan, {}, PlanChoice::every_layer, 9), Error);
  EXPECT_NO_THROW(analyze(kPlan, {}, PlanChoice::every_layer, 10));
  EXPECT_THROW(analyze(kPlan, {.num_rows = 0}), Error);
  EXPECT_THROW(analyze(kPlan, {.needle = {90}}), Error);
  EXPECT_THROW(analyze(kPlan, {.needle = {1}, .needle_rows = 0}), Error);
  EXPECT_THROW(analyze("FS"), Error);
  EXPECT_THROW(analyze("FFFFSSFS", {}, PlanChoice::shared), Error);
}

TEST(AnalyzeSharing, ProgressReachesItsEndAndMayStop) {
  int64_t last = 0, total = 0;
  analyze(kPlan, {.num_rows = 2, .progress = [&](int64_t done, int64_t of) {
                    EXPECT_GE(done, last);
                    last = done;
                    total = of;
                  }});
  EXPECT_EQ(last, 3 * 90);
  EXPECT_EQ(total, 3 * 90);
  EXPECT_THROW(analyze(kPlan, {.progress = [](int64_t, int64_t) { throw std::runtime_error("stop"); }}),
               std::runtime_error);
}

}  // namespace
}  // namespace indexshare
