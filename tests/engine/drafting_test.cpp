// SPDX-License-Identifier: Apache-2.0
// Drafting changes how fast tokens come and nothing else. "tiny-glm-mtp" has drafts of which some come true.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <stdexcept>

#include "analysis/flops.h"
#include "fixture.h"

namespace indexshare {
namespace {

constexpr const char* kModel = "tiny-glm-mtp";

Request greedy(std::vector<int32_t> tokens, int64_t max_tokens = 40) {
  Request r;
  r.tokens = std::move(tokens);
  r.sampling = {.max_tokens = max_tokens, .temperature = 0, .logprobs = 3, .ignore_eos = true};
  return r;
}

uint64_t sum(const std::vector<uint64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), 0ul);
}

void expect_same(const Completion& a, const Completion& b) {
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(ids(a), ids(b));
  EXPECT_EQ(a.finish, b.finish) << a.error << b.error;
  for (size_t t = 0; t < std::min(a.tokens.size(), b.tokens.size()); ++t) {
    EXPECT_EQ(a.tokens[t].logprob, b.tokens[t].logprob) << "token " << t;
    for (size_t i = 0; i < a.tokens[t].top_logprobs.size(); ++i) {
      EXPECT_EQ(a.tokens[t].top_logprobs[i].token, b.tokens[t].top_logprobs[i].token);
      EXPECT_EQ(a.tokens[t].top_logprobs[i].logprob, b.tokens[t].top_logprobs[i].logprob);
    }
  }
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// (position, step) -> draft logits
using Drafts = std::map<std::pair<int64_t, int64_t>, std::vector<float>>;

Drafts drafts_of(Engine& e, SequenceId sequence, std::span<const int32_t> tokens) {
  Drafts drafts;
  e.evaluate(sequence, tokens,
             {.draft_sink = [&](int64_t position, int64_t step, std::span<const float> row) {
               drafts[{position, step}].assign(row.begin(), row.end());
             }});
  return drafts;
}

Drafts drafts_of(Engine& e, std::span<const int32_t> tokens) {
  const SequenceId s = e.create_sequence();
  Drafts drafts = drafts_of(e, s, tokens);
  e.release(s);
  return drafts;
}

// Bit for bit, where `some` has anything to say.
void expect_within(const Drafts& some, const Drafts& all, const char* what) {
  ASSERT_FALSE(some.empty()) << what;
  for (const auto& [key, row] : some) {
    ASSERT_TRUE(all.contains(key)) << what << ": position " << key.first << " step " << key.second;
    EXPECT_EQ(row, all.at(key)) << what << ": position " << key.first << " step " << key.second;
  }
}

int32_t argmax(const std::vector<float>& row) {
  return static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
}

TEST(Drafting, GreedyOutputIsTheSameForAnyDraftLengthAndChunk) {
  for (const char* backend : {"cpu", "reference"}) {
    const auto plain = load(kModel, {.backend = backend});
    const Completion expected = plain->generate(greedy(random_tokens(70, 1)));
    for (int64_t draft_tokens : {1, 2, 4, 7})
      for (const bool share : {true, false})
        for (int64_t chunk : {512, 9}) {
          SCOPED_TRACE(testing::Message()
                       << backend << " drafts " << draft_tokens << " share " << share << " chunk " << chunk);
          const auto e = load(kModel, {.backend = backend,
                                       .chunk_size = chunk,
                                       .draft_tokens = draft_tokens,
                                       .draft_index_share = share});
          const Completion c = e->generate(greedy(random_tokens(70, 1)));
          expect_same(c, expected);
          const uint64_t accepted = sum(c.drafts.accepted);
          EXPECT_GT(accepted, 0u) << "the fixture's drafts never come true";
          EXPECT_LT(accepted, sum(c.drafts.proposed)) << "the fixture's drafts always come true";
          // The first token comes from the prompt, and where one alone was left at the end, nothing is
          // drafted.
          EXPECT_GE(c.drafts.rounds + accepted, 38u);
          EXPECT_LE(c.drafts.rounds + accepted, 39u);
        }
  }
}

TEST(Drafting, EveryLimitOfTokensIsKept) {
  const auto plain = load(kModel), e = load(kModel, {.draft_tokens = 4});
  for (int64_t max_tokens = 1; max_tokens < 12; ++max_tokens) {
    Request r = greedy(random_tokens(50, 2), max_tokens);
    SequenceId lengths[2];
    Completion completions[2];
    for (int i : {0, 1}) {
      Engine& engine = i ? *e : *plain;
      r.sequence = engine.create_sequence();
      completions[i] = engine.generate(r);
      lengths[i] = engine.length(r.sequence);
    }
    expect_same(completions[1], completions[0]);
    EXPECT_EQ(lengths[1], lengths[0]);
  }
  for (int64_t ctx_size : {51, 53, 60}) {
    const auto a = load(kModel, {.ctx_size = ctx_size}),
               b = load(kModel, {.ctx_size = ctx_size, .draft_tokens = 4});
    expect_same(b->generate(greedy(random_tokens(50, 2))), a->generate(greedy(random_tokens(50, 2))));
  }
}

TEST(Drafting, BatchMatesDoNotMatter) {
  const auto plain = load(kModel);
  for (int64_t chunk : {512, 16}) {
    const auto e = load(kModel, {.threads = 2, .chunk_size = chunk, .draft_tokens = 3});
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 6; ++i) {
      requests.push_back(greedy(random_tokens(10 + 23 * i, 10 + i), 3 + 7 * static_cast<int64_t>(i)));
      if (i % 2) {
        requests[i].sampling.temperature = 0.8f;
        requests[i].sampling.seed = i;
      }
    }
    std::vector<Completion> alone;
    for (size_t i = 0; i < requests.size(); ++i) {
      alone.push_back(e->generate(requests[i]));
      if (i % 2 == 0) expect_same(alone[i], plain->generate(requests[i]));
    }
    std::vector<RequestId> submitted;
    for (const Request& r : requests) submitted.push_back(e->submit(r));
    while (e->step()) {
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "request " << i << " chunk " << chunk);
      expect_same(*e->take(submitted[i]), alone[i]);
    }
  }
}

// Over many seeds the tokens that were drafted and verified are spread as those that were not; the proof in
// numbers is Speculation's in sampler_test.cpp.
TEST(Drafting, SampledTokensAreSpreadAsWithout) {
  constexpr int kSeeds = 500;
  std::map<int32_t, std::array<int, 2>> counts[2];  // of the second and third token: without, with drafts
  uint64_t accepted = 0, proposed = 0;
  for (const int with : {0, 1}) {
    const auto e = load(kModel, {.draft_tokens = with ? 2 : 0});
    std::vector<RequestId> submitted;
    for (int seed = 0; seed < kSeeds; ++seed) {
      Request r = greedy(random_tokens(12, 20), 3);
      r.sampling.temperature = 1;
      r.sampling.top_k = 3;
      r.sampling.seed = static_cast<uint64_t>(seed + 1000 * with);
      submitted.push_back(e->submit(r));
    }
    while (e->step()) {
    }
    for (RequestId id : submitted) {
      const Completion c = *e->take(id);
      for (int i : {0, 1}) ++counts[i][ids(c).at(static_cast<size_t>(i + 1))][with];
      accepted += sum(c.drafts.accepted);
      proposed += sum(c.drafts.proposed);
    }
  }
  EXPECT_GT(accepted, proposed / 10);
  EXPECT_LT(accepted, proposed * 9 / 10);
  for (const auto& of_token : counts) {
    double chi_square = 0;
    int cells = 0;
    std::array<int, 2> rare = {};
    const auto add = [&](const std::array<int, 2>& cell) {
      const double difference = cell[0] - cell[1], both = cell[0] + cell[1];
      chi_square += difference * difference / both;
      ++cells;
    };
    for (const auto& [token, cell] : of_token) {
      if (cell[0] + cell[1] >= 20) {
        add(cell);
      } else {
        for (int with : {0, 1}) rare[with] += cell[with];
      }
    }
    if (rare[0] + rare[1] > 0) add(rare);
    EXPECT_LT(chi_square, cells - 1 + 3.1 * std::sqrt(2.0 * (cells - 1)) + 6) << cells << " cells";
  }
}

TEST(Drafting, ASequenceGoesOn) {
  const auto plain = load(kModel), e = load(kModel, {.draft_tokens = 4});
  Request a = greedy(random_tokens(64, 3), 20), b = a;
  a.sequence = plain->create_sequence();
  b.sequence = e->create_sequence();
  for (int turn = 0; turn < 4; ++turn) {
    const Completion expected = plain->generate(a), c = e->generate(b);
    expect_same(c, expected);
    EXPECT_EQ(c.cached_tokens, expected.cached_tokens);  // nothing is read twice
    EXPECT_EQ(e->length(b.sequence), plain->length(a.sequence));
    auto next = ids(c);
    for (int32_t token : random_tokens(static_cast<size_t>(7 * turn + 1), 30 + turn)) next.push_back(token);
    for (Request* r : {&a, &b}) r->tokens.insert(r->tokens.end(), next.begin(), next.end());
  }
  for (Request* r : {&a, &b}) r->tokens.resize(70);  // an edited turn: the hidden state there is gone
  const Completion expected = plain->generate(a), c = e->generate(b);
  expect_same(c, expected);
  EXPECT_GE(c.cached_tokens, expected.cached_tokens - 1);  // so one token is read again
}

TEST(Drafting, EndsInsideADraft) {
  const auto plain = load(kModel);
  const Completion free_run = plain->generate(greedy(random_tokens(70, 1)));
  for (size_t at = 3; at < 24; at += 2) {
    const int32_t eos = ids(free_run)[at];
    const std::string overrides = R"({"eos_token_id":)" + std::to_string(eos) + "}";
    const auto a = load(kModel, {.hf_overrides = overrides}),
               b = load(kModel, {.hf_overrides = overrides, .draft_tokens = 5});
    Request r = greedy(random_tokens(70, 1));
    r.sampling.ignore_eos = false;
    const Completion expected = a->generate(r), c = b->generate(r);
    EXPECT_EQ(c.finish, FinishReason::stop);
    expect_same(c, expected);
  }
  const auto e = load(kModel, {.draft_tokens = 5});
  for (size_t at = 2; at + 3 < free_run.text.size(); at += 3) {
    Request r = greedy(random_tokens(70, 1));
    r.sampling.stop = {free_run.text.substr(at, 3)};
    expect_same(e->generate(r), plain->generate(r));
  }
}

TEST(Drafting, CancellingWaitsForNoRoundToEnd) {
  const auto e = load(kModel, {.draft_tokens = 6});
  for (const size_t wanted : {1u, 2u, 3u, 4u, 5u}) {
    Request r = greedy(random_tokens(70, 1), 100);
    r.sequence = e->create_sequence();
    size_t generated = 0;
    RequestId id = 0;
    r.on_token = [&](const GeneratedToken&) {
      if (++generated == wanted) e->cancel(id);
    };
    id = e->submit(r);
    while (e->step()) {
    }
    const Completion c = *e->take(id);
    EXPECT_EQ(c.finish, FinishReason::cancelled);
    EXPECT_EQ(c.tokens.size(), wanted);
    EXPECT_EQ(e->length(r.sequence), 70 + static_cast<int64_t>(wanted) - 1);
    r.on_token = nullptr;  // and the sequence goes on as if nothing had been
    r.sampling.max_tokens = 20;
    expect_same(e->generate(r), load(kModel)->generate(greedy(random_tokens(70, 1), 20)));
    e->release(r.sequence);
  }
}

TEST(Drafting, ACallbackThatThrowsInsideADraftEndsItsOwnRequestAlone) {
  const auto e = load(kModel, {.draft_tokens = 6});
  Request bad = greedy(random_tokens(70, 1));
  int generated = 0;
  bad.on_token = [&](const GeneratedToken&) {
    if (++generated == 3) throw std::runtime_error("no more");
  };
  const RequestId a = e->submit(bad), b = e->submit(greedy(random_tokens(60, 2)));
  while (e->step()) {
  }
  EXPECT_NE(e->take(a)->error.find("no more"), std::string::npos);
  expect_same(*e->take(b), load(kModel)->generate(greedy(random_tokens(60, 2))));
}

// Known mistake: the sharing is silently off, or on where it was switched off.
TEST(Drafting, OneIndexerPassARound) {
  for (const bool share : {true, false}) {
    const auto e = load(kModel, {.draft_tokens = 4, .draft_index_share = share});
    EXPECT_EQ(e->info().draft_index_share, share);
    const Completion c = e->generate(greedy(random_tokens(70, 1)));
    const Counters counters = e->counters();
    const auto& drafting = counters.drafting;
    EXPECT_EQ(counters.indexer_passes, 4 * counters.forward_passes);  // of FFFSSSFS
    // The MTP layer reads on behind every pass of the target but the last; the passes after that are drafts.
    const uint64_t first_passes = counters.forward_passes - 1;
    const uint64_t undrafted = 39 - c.drafts.rounds - sum(c.drafts.accepted);  // the last token, maybe
    EXPECT_EQ(first_passes, c.drafts.rounds + undrafted);
    EXPECT_EQ(drafting.passes - first_passes, sum(c.drafts.proposed) - c.drafts.proposed[0]);
    EXPECT_EQ(drafting.indexer_passes, share ? first_passes : drafting.passes);
    EXPECT_EQ(drafting.statistics.rounds, c.drafts.rounds);
    EXPECT_EQ(drafting.statistics.accepted, c.drafts.accepted);
    EXPECT_EQ(counters.tokens, 70 + c.drafts.rounds + sum(c.drafts.proposed) + undrafted);
  }
  const auto off =
      load(kModel, {.hf_overrides = R"({"index_share_for_mtp_iteration":false})", .draft_tokens = 4});
  EXPECT_FALSE(off->info().draft_index_share);  // a checkpoint that was not trained so
}

// Known mistake: the round goes on from the last row of the verification instead of the last accepted one.
// Every round of a request is held against the rounds that evaluate() finds over the same text.
TEST(Drafting, RoundsGoOnFromTheLastAcceptedRow) {
  constexpr int64_t kDrafts = 3;
  const auto prompt = random_tokens(40, 4);
  for (const bool share : {true, false}) {
    const auto e = load(kModel, {.draft_tokens = kDrafts, .draft_index_share = share});
    const Completion c = e->generate(greedy(prompt, 24));
    std::vector<int32_t> text = prompt;
    for (int32_t token : ids(c)) text.push_back(token);

    std::vector<uint64_t> accepted(kDrafts);
    uint64_t rounds = 0;
    for (size_t known = prompt.size() + 1; known < text.size(); ++rounds) {
      // The round begins at the row before the last known token, whose draft is fed with what it drafted.
      std::vector<int32_t> fed(text.begin(), text.begin() + static_cast<int64_t>(known));
      const auto anchor = static_cast<int64_t>(known) - 2;
      bool matches = true;
      size_t gained = 1;
      for (int64_t step = 1;
           step <= std::min<int64_t>(kDrafts, std::ssize(text) - std::ssize(fed) - 1 + step - 1); ++step) {
        if (known + static_cast<size_t>(step) >= text.size()) break;
        const int32_t drafted = argmax(drafts_of(*e, fed).at({anchor, step}));
        matches = matches && drafted == text[known + static_cast<size_t>(step) - 1];
        if (matches) {
          ++accepted[static_cast<size_t>(step) - 1];
          ++gained;
        }
        fed.push_back(drafted);
      }
      known += gained;
    }
    EXPECT_EQ(accepted, c.drafts.accepted) << "share " << share;
  }
}

// Known mistakes: drafts leave keys behind, rejected ones stay in a cache, pages are not copied when forks
// part. What the MTP layer says afterwards equals what it says over a fresh cache, bit for bit.
TEST(Drafting, NothingStaysOfADraft) {
  for (const char* model : {kModel, "tiny-glm-mtp-random", "tiny-deepseek-mtp"})
    for (const bool share : {true, false}) {
      const auto e = load(model, {.chunk_size = 32, .draft_tokens = 3, .draft_index_share = share});
      Request r = greedy(random_tokens(64, 5), 30);
      r.sequence = e->create_sequence();
      const Completion c = e->generate(r);
      const SequenceId child = e->fork(r.sequence);
      auto text = e->tokens(r.sequence);
      const auto left = random_tokens(40, 6), right = random_tokens(50, 7);
      const auto left_drafts = drafts_of(*e, r.sequence, left), right_drafts = drafts_of(*e, child, right);
      for (const auto& [suffix, drafts] : {std::pair{left, left_drafts}, std::pair{right, right_drafts}}) {
        auto all = text;
        all.insert(all.end(), suffix.begin(), suffix.end());
        const Drafts fresh = drafts_of(*e, all);
        expect_within(drafts, fresh, model);
      }
    }
}

TEST(Drafting, ForksPartAtTheEndOfAPage) {
  const auto e = load(kModel, {.draft_tokens = 3});
  const auto page = random_tokens(64, 8);  // the MTP layer's last row of this page is written later
  const SequenceId parent = e->create_sequence();
  drafts_of(*e, parent, page);
  const SequenceId child = e->fork(parent);
  const auto left = random_tokens(10, 9), right = random_tokens(10, 10);
  drafts_of(*e, parent, left);
  drafts_of(*e, child, right);
  for (const auto& [sequence, suffix] : {std::pair{parent, left}, std::pair{child, right}}) {
    auto all = page;
    for (const auto& part : {suffix, random_tokens(10, 11)}) all.insert(all.end(), part.begin(), part.end());
    expect_within(drafts_of(*e, sequence, random_tokens(10, 11)), drafts_of(*e, all), "fork");
  }
}

TEST(Drafting, ChunksAndThreadsDoNotChangeADraft) {
  const auto tokens = random_tokens(100, 12);
  for (const char* model : {"tiny-glm-mtp-random", "tiny-deepseek-mtp"}) {
    const Drafts expected = drafts_of(*load(model, {.draft_tokens = 3}), tokens);
    EXPECT_EQ(expected.size(), 99u + 98u + 97u);
    for (int64_t chunk : {4, 7, 33})
      EXPECT_EQ(drafts_of(*load(model, {.threads = 2, .chunk_size = chunk, .draft_tokens = 3}), tokens),
                expected);
    const Drafts longer = drafts_of(*load(model, {.draft_tokens = 5}), tokens);
    for (const auto& [key, row] : expected) EXPECT_EQ(longer.at(key), row);
  }
}

TEST(Drafting, SharingChangesLaterStepsAlone) {
  const auto tokens = random_tokens(100, 13);
  const std::string shares = R"({"index_share_for_mtp_iteration":true})";
  for (const char* model : {"tiny-glm-mtp-random", "tiny-deepseek-mtp"}) {
    const Drafts shared = drafts_of(*load(model, {.hf_overrides = shares, .draft_tokens = 2}), tokens),
                 own = drafts_of(*load(model, {.draft_tokens = 2, .draft_index_share = false}), tokens);
    int differing = 0;
    for (const auto& [key, row] : shared) {
      if (key.second == 1 || key.first < 8) {  // index_topk 8: everything is seen
        EXPECT_EQ(row, own.at(key));
      } else {
        differing += row != own.at(key);
      }
    }
    EXPECT_GT(differing, 50);
  }
}

// NaN in the layer that drafts costs the drafts, not the text.
TEST(Drafting, ABrokenMtpLayerDraftsNothing) {
  const std::filesystem::path broken =
      std::filesystem::path(INDEXSHARE_BINARY_DIR) / "fixtures/tiny-glm-mtp-broken";
  std::filesystem::remove_all(broken);
  std::filesystem::copy(fixture(kModel), broken, std::filesystem::copy_options::recursive);
  {
    std::fstream f(broken / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    uint64_t header_bytes = 0;
    f.read(reinterpret_cast<char*>(&header_bytes), 8);
    std::string header(header_bytes, ' ');
    f.read(header.data(), static_cast<std::streamsize>(header_bytes));
    const size_t offsets = header.find("data_offsets", header.find("model.layers.8.enorm.weight"));
    const int64_t begin = std::stoll(header.substr(header.find('[', offsets) + 1));
    const float nan = std::nanf("");
    f.seekp(static_cast<std::streamoff>(8 + header_bytes) + begin);
    f.write(reinterpret_cast<const char*>(&nan), sizeof nan);
  }
  const auto e = Engine::load(broken.string(), {.ctx_size = 512, .draft_tokens = 3});
  const Completion c = e->generate(greedy(random_tokens(70, 1)));
  expect_same(c, load(kModel)->generate(greedy(random_tokens(70, 1))));
  EXPECT_EQ(c.drafts.rounds, 0u);
}

TEST(Drafting, WhatCannotDraftIsNamed) {
  const std::string none = error_of([] { load("tiny-glm", {.draft_tokens = 2}); });
  EXPECT_NE(none.find("draft_tokens"), std::string::npos) << none;
  EXPECT_NE(none.find("MTP"), std::string::npos) << none;
  const std::string many = error_of([] { load(kModel, {.chunk_size = 4, .draft_tokens = 4}); });
  EXPECT_NE(many.find("less than chunk_size, found 4"), std::string::npos) << many;
  EXPECT_NE(error_of([] { load(kModel, {.draft_tokens = 33}); }).find("found 33"), std::string::npos);
  const auto off = load(kModel);
  EXPECT_NE(error_of([&] { drafts_of(*off, random_tokens(5, 1)); }).find("draft_sink"), std::string::npos);
  EXPECT_EQ(off->info().draft_tokens, 0);
  EXPECT_LT(off->info().latent_bytes_per_token,
            load(kModel, {.draft_tokens = 1})->info().latent_bytes_per_token);
}

}  // namespace
}  // namespace indexshare
