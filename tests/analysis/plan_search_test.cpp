// SPDX-License-Identifier: Apache-2.0
// The search on a checkpoint in which layers 3, 5 and 6 add nothing to the stream from attention, so that
// they may share for free, and on texts that the model wrote itself, so that anything else costs.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "engine/fixture.h"
#include "indexshare/analysis.h"

namespace indexshare {
namespace {

using Windows = std::vector<std::vector<int32_t>>;

std::unique_ptr<Engine> load_idle() {
  return load("tiny-glm-idle", {.chunk_size = 64, .plan = PlanChoice::every_layer});
}

Windows own_texts(Engine& engine, size_t count, int64_t length) {
  Windows windows;
  for (size_t i = 0; i < count; ++i) {
    Request request;
    request.tokens = random_tokens(20, 10 + i);
    request.sampling = {.max_tokens = length - 20, .temperature = 0, .ignore_eos = true};
    windows.push_back(request.tokens);
    for (const int32_t token : ids(engine.generate(request))) windows.back().push_back(token);
  }
  return windows;
}

void expect_same(const PlanSearchResult& a, const PlanSearchResult& b) {
  EXPECT_EQ(a.pattern, b.pattern);
  ASSERT_EQ(a.state.steps.size(), b.state.steps.size());
  for (size_t i = 0; i < a.state.steps.size(); ++i) {
    const PlanSearchStep &x = a.state.steps[i], &y = b.state.steps[i];
    EXPECT_EQ(x.pattern, y.pattern);
    EXPECT_EQ(x.loss, y.loss);
    ASSERT_EQ(x.candidates.size(), y.candidates.size());
    for (size_t j = 0; j < x.candidates.size(); ++j) {
      EXPECT_EQ(x.candidates[j].layer, y.candidates[j].layer);
      EXPECT_EQ(x.candidates[j].loss, y.candidates[j].loss);
    }
  }
  ASSERT_EQ(a.comparisons.size(), b.comparisons.size());
  for (size_t i = 0; i < a.comparisons.size(); ++i) {
    EXPECT_EQ(a.comparisons[i].pattern, b.comparisons[i].pattern);
    EXPECT_EQ(a.comparisons[i].loss, b.comparisons[i].loss);
  }
}

TEST(PlanSearch, FindsTheLayersThatDoNotMatter) {
  const auto engine = load_idle();
  const Windows windows = own_texts(*engine, 3, 120);
  const PlanSearchResult r = search_plan(*engine, windows, {.num_flips = 4});
  ASSERT_EQ(r.state.steps.size(), 4u);
  for (size_t step = 0; step < 3; ++step) {
    EXPECT_EQ(r.state.steps[step].layer, (std::vector<int>{3, 5, 6})[step]);
    EXPECT_EQ(r.state.steps[step].loss, r.state.every_layer_loss);
    EXPECT_EQ(r.state.steps[step].candidates.size(), 7 - step);
  }
  EXPECT_EQ(r.state.steps[2].pattern, "FFFSFSSF");
  EXPECT_GT(r.state.steps[3].loss, r.state.every_layer_loss);
  EXPECT_EQ(r.scored_tokens, 3 * (120 - 1 - 8));
}

TEST(PlanSearch, LossesAreThoseOfThePatternLoaded) {
  const auto engine = load_idle();
  const Windows windows = {random_tokens(60, 1), random_tokens(33, 2)};
  const PlanSearchResult r =
      search_plan(*engine, windows, {.num_flips = 1, .compared = {{"mine", "FSSSFSSS"}}});
  ASSERT_EQ(r.comparisons.size(), 4u);
  EXPECT_EQ(r.comparisons[0].pattern, "FFFFFFFF");
  EXPECT_EQ(r.comparisons[1].loss, r.state.steps[0].loss);
  EXPECT_EQ(r.comparisons[2].pattern, uniform_pattern(8, 7));
  EXPECT_EQ(r.comparisons[3].name, "mine");
  // The whole texts under the plan from their first token on.
  const auto loaded = load("tiny-glm-idle", {.hf_overrides = R"({"index_topk_pattern":"FSSSFSSS"})"});
  double sum = 0;
  for (const auto& window : windows) {
    const auto logits = logits_of(*loaded, window);
    for (size_t row = 8; row + 1 < window.size(); ++row) {
      const float* l = logits.data() + row * 320;
      double norm = 0;
      for (int i = 0; i < 320; ++i) norm += std::exp(static_cast<double>(l[i]));
      sum += std::log(norm) - l[window[row + 1]];
    }
  }
  EXPECT_NEAR(r.comparisons[3].loss, sum / (60 - 9 + 33 - 9), 1e-6);
}

TEST(PlanSearch, ResumedAnywhereItEndsTheSame) {
  const auto engine = load_idle();
  const Windows windows = {random_tokens(70, 3)};
  for (const int64_t tail_rows : {0, 16}) {
    std::vector<PlanSearchState> saved;
    PlanSearchOptions options{.num_flips = 3, .tail_rows = tail_rows};
    options.on_candidate = [&](const PlanSearchState& state) { saved.push_back(state); };
    const PlanSearchResult whole = search_plan(*engine, windows, options);
    ASSERT_EQ(saved.size(), 7u + 6 + 5 + 3);
    for (const size_t at : {0u, 6u, 7u, 11u, 20u}) {
      PlanSearchOptions rest{.num_flips = 3, .tail_rows = tail_rows, .resume = saved[at]};
      size_t calls = 0;
      rest.on_candidate = [&](const PlanSearchState&) { ++calls; };
      expect_same(search_plan(*engine, windows, rest), whole);
      EXPECT_EQ(calls, 20 - at);
    }
    // A state of a longer search serves a shorter one.
    const PlanSearchResult shorter =
        search_plan(*engine, windows, {.num_flips = 2, .tail_rows = tail_rows, .resume = saved.back()});
    EXPECT_EQ(shorter.pattern, whole.state.steps[1].pattern);
  }
}

TEST(PlanSearch, AnInterruptedSearchLeavesNoSequenceBehind) {
  const auto engine =
      load("tiny-glm-idle", {.ctx_size = 512, .chunk_size = 64, .plan = PlanChoice::every_layer});
  const Windows windows = {random_tokens(150, 4)};
  for (int i = 0; i < 8; ++i) {  // a sequence left behind would fill the cache of 8 pages
    PlanSearchOptions options{.num_flips = 2};
    options.on_candidate = [](const PlanSearchState&) { throw std::runtime_error("stop"); };
    EXPECT_THROW(search_plan(*engine, windows, options), std::runtime_error);
  }
}

TEST(PlanSearch, TailsApproximateBehindThePlanOfTheStepBefore) {
  const auto engine = load_idle();
  const Windows windows = own_texts(*engine, 1, 120);
  const PlanSearchResult r = search_plan(*engine, windows, {.num_flips = 3, .tail_rows = 40});
  EXPECT_EQ(r.pattern, "FFFSFSSF");
  EXPECT_EQ(r.comparisons[1].loss, r.state.every_layer_loss);  // exact, though the steps are not
  const PlanSearchResult all = search_plan(*engine, windows, {.num_flips = 1, .tail_rows = 1000}),
                         exact = search_plan(*engine, windows, {.num_flips = 1});
  EXPECT_EQ(all.state.steps[0].loss, exact.state.steps[0].loss);  // a tail of everything
}

void expect_error(ErrorCode code, const std::string& words, const std::function<void()>& call) {
  try {
    call();
    FAIL() << "no error about " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(PlanSearch, WhatCannotBeSearchedIsRefused) {
  const Windows windows = {random_tokens(60, 5)};
  const auto shared = load("tiny-glm-idle");
  expect_error(ErrorCode::unsupported, "an indexer in every layer",
               [&] { search_plan(*shared, windows, {.num_flips = 1}); });
  const auto engine = load_idle();
  constexpr auto kInvalid = ErrorCode::invalid_argument;
  expect_error(kInvalid, "num_flips: expected 1 to 7",
               [&] { search_plan(*engine, windows, {.num_flips = 8}); });
  expect_error(kInvalid, "num_flips", [&] { search_plan(*engine, windows, {}); });
  expect_error(kInvalid, "windows: expected at least one",
               [&] { search_plan(*engine, {}, {.num_flips = 1}); });
  expect_error(kInvalid, "windows: expected at least 10 tokens each, found 9",
               [&] { search_plan(*engine, Windows{random_tokens(9, 1)}, {.num_flips = 1}); });
  PlanSearchState foreign = search_plan(*engine, windows, {.num_flips = 1}).state;
  foreign.every_layer_loss += 0.01;
  expect_error(kInvalid, "resume: expected a loss of",
               [&] { search_plan(*engine, windows, {.num_flips = 2, .resume = foreign}); });
  foreign.every_layer_loss -= 0.01;
  foreign.steps[0].layer = 0;
  expect_error(kInvalid, "resume: expected a step",
               [&] { search_plan(*engine, windows, {.num_flips = 2, .resume = foreign}); });
}

TEST(UniformPattern, SpreadsFullLayersFromTheFirstOn) {
  EXPECT_EQ(uniform_pattern(8, 2), "FSSSFSSS");
  EXPECT_EQ(uniform_pattern(8, 8), "FFFFFFFF");
  EXPECT_EQ(uniform_pattern(8, 1), "FSSSSSSS");
  EXPECT_EQ(uniform_pattern(8, 3), "FSFSSFSS");
  EXPECT_EQ(uniform_pattern(5, 2), "FSFSS");
}

}  // namespace
}  // namespace indexshare
