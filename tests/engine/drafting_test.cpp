// SPDX-License-Identifier: Apache-2.0
// Drafting changes how fast tokens come and nothing else.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>

#include "drafts.h"

namespace indexshare {
namespace {

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

TEST(Drafting, GreedyOutputIsTheSameForAnyDraftLengthAndChunk) {
  for (const char* backend : {"cpu", "reference"}) {
    const auto plain = load(kDraftingModel, {.backend = backend});
    const Completion expected = plain->generate(greedy_request(random_tokens(70, 1)));
    for (int64_t draft_tokens : {1, 2, 4, 7})
      for (const bool share : {true, false})
        for (int64_t chunk : {512, 9}) {
          SCOPED_TRACE(testing::Message()
                       << backend << " drafts " << draft_tokens << " share " << share << " chunk " << chunk);
          const auto e = load(kDraftingModel, {.backend = backend,
                                               .chunk_size = chunk,
                                               .draft_tokens = draft_tokens,
                                               .draft_index_share = share});
          const Completion c = e->generate(greedy_request(random_tokens(70, 1)));
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
  const auto plain = load(kDraftingModel), e = load(kDraftingModel, {.draft_tokens = 4});
  for (int64_t max_tokens = 1; max_tokens < 12; ++max_tokens) {
    Request r = greedy_request(random_tokens(50, 2), max_tokens);
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
    const auto a = load(kDraftingModel, {.ctx_size = ctx_size}),
               b = load(kDraftingModel, {.ctx_size = ctx_size, .draft_tokens = 4});
    expect_same(b->generate(greedy_request(random_tokens(50, 2))),
                a->generate(greedy_request(random_tokens(50, 2))));
  }
}

TEST(Drafting, BatchMatesDoNotMatter) {
  const auto plain = load(kDraftingModel);
  for (int64_t chunk : {512, 16}) {
    const auto e = load(kDraftingModel, {.threads = 2, .chunk_size = chunk, .draft_tokens = 3});
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 6; ++i) {
      requests.push_back(greedy_request(random_tokens(10 + 23 * i, 10 + i), 3 + 7 * static_cast<int64_t>(i)));
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
    const auto e = load(kDraftingModel, {.draft_tokens = with ? 2 : 0});
    std::vector<RequestId> submitted;
    for (int seed = 0; seed < kSeeds; ++seed) {
      Request r = greedy_request(random_tokens(12, 20), 3);
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
  const auto plain = load(kDraftingModel), e = load(kDraftingModel, {.draft_tokens = 4});
  Request a = greedy_request(random_tokens(64, 3), 20), b = a;
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
  const auto plain = load(kDraftingModel);
  const Completion free_run = plain->generate(greedy_request(random_tokens(70, 1)));
  for (size_t at = 3; at < 24; at += 2) {
    const int32_t eos = ids(free_run)[at];
    const std::string overrides = R"({"eos_token_id":)" + std::to_string(eos) + "}";
    const auto a = load(kDraftingModel, {.hf_overrides = overrides}),
               b = load(kDraftingModel, {.hf_overrides = overrides, .draft_tokens = 5});
    Request r = greedy_request(random_tokens(70, 1));
    r.sampling.ignore_eos = false;
    const Completion expected = a->generate(r), c = b->generate(r);
    EXPECT_EQ(c.finish, FinishReason::stop);
    expect_same(c, expected);
  }
  const auto e = load(kDraftingModel, {.draft_tokens = 5});
  for (size_t at = 2; at + 3 < free_run.text.size(); at += 3) {
    Request r = greedy_request(random_tokens(70, 1));
    r.sampling.stop = {free_run.text.substr(at, 3)};
    expect_same(e->generate(r), plain->generate(r));
  }
}

TEST(Drafting, CancellingWaitsForNoRoundToEnd) {
  const auto e = load(kDraftingModel, {.draft_tokens = 6});
  for (const size_t wanted : {1u, 2u, 3u, 4u, 5u}) {
    Request r = greedy_request(random_tokens(70, 1), 100);
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
    expect_same(e->generate(r), load(kDraftingModel)->generate(greedy_request(random_tokens(70, 1), 20)));
    e->release(r.sequence);
  }
}

TEST(Drafting, ACallbackThatThrowsInsideADraftEndsItsOwnRequestAlone) {
  const auto e = load(kDraftingModel, {.draft_tokens = 6});
  Request bad = greedy_request(random_tokens(70, 1));
  int generated = 0;
  bad.on_token = [&](const GeneratedToken&) {
    if (++generated == 3) throw std::runtime_error("no more");
  };
  const RequestId a = e->submit(bad), b = e->submit(greedy_request(random_tokens(60, 2)));
  while (e->step()) {
  }
  EXPECT_NE(e->take(a)->error.find("no more"), std::string::npos);
  expect_same(*e->take(b), load(kDraftingModel)->generate(greedy_request(random_tokens(60, 2))));
}

// NaN in the layer that drafts costs the drafts, not the text.
TEST(Drafting, ABrokenMtpLayerDraftsNothing) {
  const std::filesystem::path broken =
      std::filesystem::path(INDEXSHARE_BINARY_DIR) / "fixtures/tiny-glm-mtp-broken";
  std::filesystem::remove_all(broken);
  std::filesystem::copy(fixture(kDraftingModel), broken, std::filesystem::copy_options::recursive);
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
  const Completion c = e->generate(greedy_request(random_tokens(70, 1)));
  expect_same(c, load(kDraftingModel)->generate(greedy_request(random_tokens(70, 1))));
  EXPECT_EQ(c.drafts.rounds, 0u);
}

TEST(Drafting, WhatCannotDraftIsNamed) {
  const std::string none = error_of([] { load("tiny-glm", {.draft_tokens = 2}); });
  EXPECT_NE(none.find("draft_tokens"), std::string::npos) << none;
  EXPECT_NE(none.find("MTP"), std::string::npos) << none;
  const std::string many = error_of([] { load(kDraftingModel, {.chunk_size = 4, .draft_tokens = 4}); });
  EXPECT_NE(many.find("less than chunk_size, found 4"), std::string::npos) << many;
  EXPECT_NE(error_of([] { load(kDraftingModel, {.draft_tokens = 33}); }).find("found 33"), std::string::npos);
  const auto off = load(kDraftingModel);
  EXPECT_NE(error_of([&] { drafts_of(*off, random_tokens(5, 1)); }).find("draft_sink"), std::string::npos);
  EXPECT_EQ(off->info().draft_tokens, 0);
  EXPECT_LT(off->info().latent_bytes_per_token,
            load(kDraftingModel, {.draft_tokens = 1})->info().latent_bytes_per_token);
}

}  // namespace
}  // namespace indexshare
