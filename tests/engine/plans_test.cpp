// SPDX-License-Identifier: Apache-2.0
// Other plans over the weights of an engine loaded with every layer's indexer, and the attention probe.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "analysis/flops.h"
#include "fixture.h"

namespace indexshare {
namespace {

constexpr const char* kPlan = "FFFSSSFS";

std::unique_ptr<Engine> load_every_layer(EngineOptions options = {}) {
  options.plan = PlanChoice::every_layer;
  return load("tiny-glm", options);
}

std::vector<float> run(Engine& e, SequenceId sequence, std::span<const int32_t> tokens,
                       EvaluateOptions options = {}) {
  std::vector<float> all;
  options.sink = [&](int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); };
  e.evaluate(sequence, tokens, options);
  return all;
}

std::vector<float> run_under(Engine& e, std::span<const int32_t> tokens, const EvaluateOptions& options) {
  const SequenceId sequence = e.create_sequence();
  std::vector<float> all = run(e, sequence, tokens, options);
  e.release(sequence);
  return all;
}

void expect_refused(const std::function<void()>& call, const std::string& words) {
  try {
    call();
    FAIL() << "no error about " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(Plans, APlanOfACallEqualsThatPlanLoaded) {
  const auto e = load_every_layer({.chunk_size = 48});
  const auto tokens = random_tokens(120, 1);
  for (const char* pattern : {kPlan, "FSSSSSSS", "FFFFFFFF", "FSFSFSFS"}) {
    const std::string overrides = std::string(R"({"index_topk_pattern":")") + pattern + "\"}";
    EXPECT_EQ(run_under(*e, tokens, {.pattern = pattern}),
              logits_of(*load("tiny-glm", {.hf_overrides = overrides}), tokens))
        << pattern;
  }
  EXPECT_EQ(run_under(*e, tokens, {.dense = true}),
            logits_of(*load("tiny-glm", {.attention = AttentionMode::dense}), tokens));
}

TEST(Plans, CountersFollowThePlanOfTheCall) {
  ModelConfig config = load_model_config(fixture("tiny-glm"));
  for (const bool dense : {false, true}) {
    const auto e = load_every_layer();
    run_under(*e, random_tokens(100, 2), {.pattern = kPlan, .dense = dense});
    const Flops derived =
        forward_flops(config, 0, 100, 100, dense ? AttentionMode::dense : AttentionMode::sparse);
    const Counters::Flops counted = e->counters().flops;
    EXPECT_EQ(counted.indexer_projections, derived.indexer_projections);
    EXPECT_EQ(counted.index_scores, derived.index_scores);
    EXPECT_EQ(counted.attention, derived.attention);
    EXPECT_EQ(counted.total(), derived.total());
    EXPECT_EQ(e->counters().indexer_passes, dense ? 0u : 4u);
  }
}

TEST(Plans, FewerFullLayersMayFollowMore) {
  const auto e = load_every_layer();
  const auto tokens = random_tokens(100, 3);
  const SequenceId sequence = e->create_sequence();
  run(*e, sequence, std::span(tokens).first(50));
  const SequenceId child = e->fork(sequence);
  run(*e, child, std::span(tokens).subspan(50), {.pattern = kPlan});
  // Layer 3 ran shared in the child and wrote no keys; the parent still has them all.
  expect_refused([&] { run(*e, child, tokens); }, "layer 3 is full in plan FFFFFFFF but has no index keys");
  run(*e, child, std::span(tokens).first(5), {.pattern = "FFSSSSSS"});
  expect_refused([&] { run(*e, child, tokens, {.pattern = kPlan}); }, "layer 2");
  EXPECT_EQ(run(*e, sequence, std::span(tokens).subspan(50)).size(), 50u * 320u);
  const SequenceId grandchild = e->fork(child);
  expect_refused([&] { run(*e, grandchild, tokens); }, "no index keys");
  e->truncate(child, 0);
  EXPECT_EQ(run(*e, child, tokens), logits_of(*e, tokens));
}

TEST(Plans, DenseRowsLeaveNoKeys) {
  const auto e = load_every_layer();
  const auto tokens = random_tokens(40, 4);
  const SequenceId sequence = e->create_sequence();
  run(*e, sequence, tokens, {.dense = true});
  expect_refused([&] { run(*e, sequence, tokens); }, "no index keys");
  Request request;
  request.tokens = random_tokens(40, 4);
  request.tokens.push_back(7);
  request.sampling.max_tokens = 1;
  request.sequence = sequence;
  expect_refused([&] { e->generate(request); }, "no index keys");
  run(*e, sequence, tokens, {.dense = true});
}

TEST(Plans, AnInterruptedCallLeavesTheKeysAsTheyWere) {
  const auto e = load_every_layer({.chunk_size = 16});
  const auto tokens = random_tokens(64, 5);
  const SequenceId sequence = e->create_sequence();
  run(*e, sequence, tokens);
  EvaluateOptions options{.pattern = kPlan};
  options.progress = [](int64_t, int64_t) { throw std::runtime_error("stop"); };
  EXPECT_THROW(e->evaluate(sequence, tokens, options), std::runtime_error);
  EXPECT_EQ(e->length(sequence), 64);
  run(*e, sequence, tokens);  // every layer still has its keys
}

TEST(Plans, ImpossiblePatternsAreRefused) {
  const auto tokens = random_tokens(4, 6);
  const auto every = load_every_layer();
  expect_refused([&] { run_under(*every, tokens, {.pattern = "FF"}); }, "pattern: expected 8 letters");
  expect_refused([&] { run_under(*every, tokens, {.pattern = "SFFFFFFF"}); }, "pattern: expected F");
  expect_refused([&] { run_under(*every, tokens, {.pattern = "FxFFFFFF"}); }, "letters F and S");
  const auto shared = load("tiny-glm");
  run_under(*shared, tokens, {.pattern = "FSFSSSFS"});
  expect_refused([&] { run_under(*shared, tokens, {.pattern = "FFFFSSFS"}); },
                 "expected S for layer 3, whose indexer is not loaded (the plan in force is FFFSSSFS)");
  const auto dense = load("tiny-glm", {.attention = AttentionMode::dense});
  expect_refused([&] { run_under(*dense, tokens, {.pattern = kPlan}); }, "dense");
}

struct Probed {
  int layer;
  int64_t position;
  std::vector<float> probabilities;
  std::vector<int32_t> selection;
};

std::vector<Probed> probe(Engine& e, std::span<const int32_t> tokens, std::vector<int64_t> positions,
                          EvaluateOptions options = {}) {
  std::vector<Probed> seen;
  options.probe_positions = std::move(positions);
  options.attention_probe = [&](int layer, int64_t position, std::span<const float> probabilities,
                                std::span<const int32_t> selection) {
    seen.push_back({layer,
                    position,
                    {probabilities.begin(), probabilities.end()},
                    {selection.begin(), selection.end()}});
  };
  run_under(e, tokens, options);
  return seen;
}

TEST(AttentionProbe, ShowsDistributionsAndSelectionsOfTheWantedRows) {
  const auto e = load("tiny-glm", {.chunk_size = 32});
  const auto seen = probe(*e, random_tokens(80, 7), {3, 40, 79});
  ASSERT_EQ(seen.size(), 3u * 8u);
  for (const Probed& p : seen) {
    const auto visible = static_cast<size_t>(p.position + 1);
    ASSERT_EQ(p.probabilities.size() % visible, 0u);
    for (size_t begin = 0; begin < p.probabilities.size(); begin += visible)
      EXPECT_NEAR(std::accumulate(p.probabilities.begin() + static_cast<long>(begin),
                                  p.probabilities.begin() + static_cast<long>(begin + visible), 0.0),
                  1.0, 1e-5);
    EXPECT_EQ(p.selection.size(), std::min<size_t>(visible, 8u));
    EXPECT_TRUE(std::is_sorted(p.selection.begin(), p.selection.end()));
  }
  EXPECT_EQ(seen[0].position, 3);
  EXPECT_EQ(seen[0].layer, 0);
  EXPECT_EQ(seen.back().position, 79);
  EXPECT_EQ(seen.back().layer, 7);
}

TEST(AttentionProbe, LooksWithoutTouching) {
  const auto tokens = random_tokens(60, 8);
  const auto e = load("tiny-glm");
  const auto untouched = logits_of(*e, tokens);
  const uint64_t flops = e->counters().flops.total();
  std::vector<float> logits;
  EvaluateOptions options{.attention_probe = [](int, int64_t, auto, auto) {}, .probe_positions = {20, 59}};
  EXPECT_EQ(run_under(*e, tokens, options), untouched);
  EXPECT_EQ(e->counters().flops.total(), 2 * flops);
}

TEST(AttentionProbe, BackendsAndCacheFormatsAgree) {
  const auto tokens = random_tokens(70, 9);
  for (const char* format : {"f32", "bf16", "int8"}) {
    const bool exact = std::string_view(format) == "f32";
    const auto a = probe(*load("tiny-glm", {.backend = "cpu", .kv_cache_dtype = format}), tokens, {69}),
               b = probe(*load("tiny-glm", {.backend = "reference", .kv_cache_dtype = format}), tokens, {69});
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      // Attention over rounded rows may round queries and weights too; further up other experts are chosen.
      if (!exact && a[i].layer > 1) continue;
      for (size_t j = 0; j < a[i].probabilities.size(); ++j)
        ASSERT_NEAR(a[i].probabilities[j], b[i].probabilities[j], exact ? 1e-5 : 5e-3)
            << format << " layer " << a[i].layer;
    }
  }
}

TEST(AttentionProbe, NoSelectionInDenseMode) {
  const auto e = load_every_layer();
  for (const Probed& p : probe(*e, random_tokens(30, 10), {29}, {.dense = true}))
    EXPECT_TRUE(p.selection.empty());
}

}  // namespace
}  // namespace indexshare
