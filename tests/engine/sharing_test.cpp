// SPDX-License-Identifier: Apache-2.0
// What sharing means, on a checkpoint of 8 layers, plan FFFSSSFS, with indexers in all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "fixture.h"

namespace indexshare {
namespace {

constexpr const char* kPlan = "FFFSSSFS";

using Selections = std::map<int, std::vector<std::vector<int32_t>>>;  // layer -> row -> positions

Selections selections_of(Engine& e, std::span<const int32_t> tokens) {
  Selections result;
  const SequenceId s = e.create_sequence();
  e.evaluate(
      s, tokens,
      {.all_rows = false,
       .selection_hook = [&](int layer, int64_t, int64_t rows, int64_t width, std::span<int32_t> positions) {
         for (int64_t r = 0; r < rows; ++r) {
           const auto row = positions.subspan(static_cast<size_t>(r * width), static_cast<size_t>(width));
           result[layer].emplace_back(row.begin(), std::find(row.begin(), row.end(), -1));
         }
       }});
  return result;
}

TEST(Sharing, OnlyFullLayersRunAnIndexerAndKeepIndexKeys) {
  const auto shared = load("tiny-glm"), every = load("tiny-glm", {.plan = PlanChoice::every_layer});
  EXPECT_EQ(shared->info().full_layers, (std::vector<int>{0, 1, 2, 6}));
  EXPECT_EQ(shared->info().source, (std::vector<int>{0, 1, 2, 2, 2, 2, 6, 6}));
  EXPECT_EQ(every->info().full_layers.size(), 8u);
  EXPECT_EQ(every->info().index_key_bytes_per_token, 2 * shared->info().index_key_bytes_per_token);
  const auto tokens = random_tokens(100, 1);
  logits_of(*shared, tokens);
  logits_of(*every, tokens);
  EXPECT_EQ(shared->counters().indexer_passes, 4 * shared->counters().forward_passes);
  EXPECT_EQ(every->counters().indexer_passes, 8 * every->counters().forward_passes);
}

TEST(Sharing, EveryEncodingOfAPlanGivesTheSameLogits) {
  const auto tokens = random_tokens(120, 2);
  const auto expected = logits_of(*load("tiny-glm"), tokens);
  for (const char* overrides :
       {R"({"index_topk_pattern":"FFFSSSFS"})", R"({"index_topk_freq":4,"index_skip_topk_offset":3})",
        R"({"indexer_types":["full","full","full","shared","shared","shared","full","shared"]})"})
    EXPECT_EQ(logits_of(*load("tiny-glm", {.hf_overrides = overrides}), tokens), expected) << overrides;
  const auto all = logits_of(*load("tiny-glm", {.plan = PlanChoice::every_layer}), tokens);
  EXPECT_EQ(logits_of(*load("tiny-glm", {.hf_overrides = R"({"index_topk_pattern":"FFFFFFFF"})"}), tokens),
            all);
  EXPECT_NE(all, expected);
}

TEST(Sharing, IndexersOfSharedLayersAreNeverRead) {
  const auto tokens = random_tokens(120, 3);  // the two checkpoints differ in the surplus indexers alone
  EXPECT_EQ(logits_of(*load("tiny-glm"), tokens), logits_of(*load("tiny-glm-shared"), tokens));
}

TEST(Sharing, AChangedSelectionReachesTheWholeGroup) {
  const auto e = load("tiny-glm");
  const auto tokens = random_tokens(100, 4);
  const auto untouched = logits_of(*e, tokens);
  for (int layer : {0, 1, 2, 6}) {
    const SequenceId s = e->create_sequence();
    std::vector<float> changed;
    e->evaluate(
        s, tokens,
        {.sink = [&](int64_t,
                     std::span<const float> row) { changed.insert(changed.end(), row.begin(), row.end()); },
         .selection_hook =
             [&](int at, int64_t, int64_t rows, int64_t width, std::span<int32_t> positions) {
               if (at != layer) return;
               for (int64_t r = 0; r < rows; ++r)  // the first position alone
                 for (int64_t i = 0; i < width; ++i) positions[r * width + i] = i == 0 ? 0 : -1;
             }});
    EXPECT_NE(changed, untouched) << "layer " << layer;
    e->release(s);
  }
}

TEST(Sharing, MissingIndexersAreAnErrorExceptForCosts) {
  try {
    load("tiny-glm-shared", {.plan = PlanChoice::every_layer});
    FAIL() << "loaded";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    for (const char* part : {"tiny-glm-shared", "--plan every_layer", "none in layer 3", "bench"})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  const auto e = load("tiny-glm-shared", {.plan = PlanChoice::every_layer, .allow_cost_only = true});
  EXPECT_TRUE(e->info().cost_only);
  EXPECT_EQ(e->info().full_layers.size(), 8u);
}

TEST(Sharing, UpToTopkTokensSparseEqualsDenseBitForBit) {
  const auto tokens = random_tokens(8, 5);  // index_topk is 8
  const auto longer = random_tokens(9, 5);
  for (const char* backend : {"reference", "cpu"}) {
    const auto sparse = load("tiny-glm", {.backend = backend}),
               dense = load("tiny-glm", {.backend = backend, .attention = AttentionMode::dense});
    EXPECT_EQ(logits_of(*sparse, tokens), logits_of(*dense, tokens)) << backend;
    EXPECT_NE(logits_of(*sparse, longer), logits_of(*dense, longer)) << backend;
    EXPECT_EQ(dense->info().index_key_bytes_per_token, 0u);
  }
}

TEST(Sharing, FixedPatternsJoinTheSelection) {
  const auto tokens = random_tokens(100, 6);
  for (const char* mode : {"fill", "union"}) {
    const std::string overrides =
        std::string(R"({"index_fixed_pattern":{"window":3,"sinks":2,"stride":16,"mode":")") + mode + "\"}}";
    const auto e = load("tiny-glm", {.hf_overrides = overrides});
    const auto plain = selections_of(*load("tiny-glm"), tokens);
    for (const auto& [layer, rows] : selections_of(*e, tokens)) {
      const auto& row = rows[99];
      for (int32_t fixed : {0, 1, 16, 32, 48, 64, 80, 96, 97, 98, 99})
        EXPECT_TRUE(std::binary_search(row.begin(), row.end(), fixed))
            << "layer " << layer << " position " << fixed;
      EXPECT_EQ(std::adjacent_find(row.begin(), row.end(), std::greater_equal<>()), row.end())
          << "ascending, once each";
      if (std::string(mode) == "fill") {
        EXPECT_EQ(row.size(), 11u + 8u);
      } else if (layer == 0) {  // the same scores in layer 0, so the same top-k is inside
        EXPECT_TRUE(std::includes(row.begin(), row.end(), plain.at(0)[99].begin(), plain.at(0)[99].end()));
      }
    }
  }
}

TEST(Sharing, APatternAloneNeedsNoIndexer) {
  const auto e =
      load("tiny-glm", {.hf_overrides = R"({"index_topk":0,"index_fixed_pattern":{"window":16}})"});
  EXPECT_TRUE(e->info().full_layers.empty());
  EXPECT_EQ(e->info().index_key_bytes_per_token, 0u);
  const auto tokens = random_tokens(16, 7);
  EXPECT_EQ(logits_of(*e, tokens), logits_of(*load("tiny-glm", {.attention = AttentionMode::dense}), tokens));
  EXPECT_EQ(e->counters().indexer_passes, 0u);
}

TEST(Sharing, CpuAgreesWithTheReference) {
  const auto tokens = random_tokens(160, 8);
  for (const char* name : {"tiny-glm", "tiny-deepseek"}) {
    const auto a = logits_of(*load(name, {.backend = "cpu"}), tokens),
               b = logits_of(*load(name, {.backend = "reference"}), tokens);
    float largest = 0, difference = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      largest = std::max(largest, std::abs(b[i]));
      difference = std::max(difference, std::abs(a[i] - b[i]));
    }
    EXPECT_LT(difference, 1e-4f * largest) << name;
  }
}

}  // namespace
}  // namespace indexshare
