// SPDX-License-Identifier: Apache-2.0
// The promise no rival keeps for sparse attention: bit for bit the same logits however the tokens were
// chunked, batched, forked or threaded. Contexts are 20 times index_topk, so the selection is always at work.
#include <gtest/gtest.h>

#include "fixture.h"

namespace indexshare {
namespace {

struct Case {
  const char* backend;
  const char* checkpoint;
  const char* kv_cache_dtype;
  const char* weights = "auto";
  int activation_bits = 0;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.backend << " " << c.checkpoint << " " << c.kv_cache_dtype << " " << c.weights << " "
       << c.activation_bits;
}

class Invariance : public ::testing::TestWithParam<Case> {
 protected:
  EngineOptions options(int64_t chunk_size, int threads = 1) const {
    return {.backend = GetParam().backend,
            .threads = threads,
            .chunk_size = chunk_size,
            .kv_cache_dtype = GetParam().kv_cache_dtype,
            .weights = GetParam().weights,
            .activation_bits = GetParam().activation_bits};
  }
  std::unique_ptr<Engine> engine(int64_t chunk_size, int threads = 1) const {
    return load(GetParam().checkpoint, options(chunk_size, threads));
  }
};

TEST_P(Invariance, AnyChunkingAndThreadCount) {
  const auto tokens = random_tokens(160, 1);
  const auto whole = logits_of(*engine(256), tokens);
  for (int64_t chunk : {1, 7, 64, 159})
    EXPECT_EQ(logits_of(*engine(chunk), tokens), whole) << "chunk " << chunk;
  for (int threads : {2, 3})
    EXPECT_EQ(logits_of(*engine(256, threads), tokens), whole) << threads << " threads";
  EXPECT_EQ(logits_of(*engine(13, 2), tokens), whole) << "chunk 13, 2 threads";
}

TEST_P(Invariance, AForkContinuesAsAFreshSequenceWould) {
  const auto e = engine(32);
  const auto prefix = random_tokens(100, 2), left = random_tokens(40, 3), right = random_tokens(50, 4);
  const SequenceId parent = e->create_sequence();
  logits_of(*e, parent, prefix);
  const SequenceId child = e->fork(parent);
  const auto left_logits = logits_of(*e, parent, left);
  const auto right_logits = logits_of(*e, child, right);
  for (const auto& [suffix, logits] : {std::pair{left, left_logits}, std::pair{right, right_logits}}) {
    auto all = prefix;
    all.insert(all.end(), suffix.begin(), suffix.end());
    const auto fresh = logits_of(*e, all);
    EXPECT_TRUE(std::equal(logits.rbegin(), logits.rend(), fresh.rbegin()));
  }
}

TEST_P(Invariance, TruncatingForgets) {
  const auto e = engine(32);
  const auto tokens = random_tokens(150, 5), other = random_tokens(60, 6);
  const SequenceId s = e->create_sequence();
  const auto first = logits_of(*e, s, tokens);
  e->truncate(s, 70);
  logits_of(*e, s, other);
  e->truncate(s, 70);
  const auto again = logits_of(*e, s, std::span(tokens).subspan(70));
  EXPECT_TRUE(std::equal(again.rbegin(), again.rend(), first.rbegin()));
}

TEST_P(Invariance, BatchMatesDoNotMatter) {
  const auto e = engine(48, 2);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 5; ++i) {
    Request r;
    r.tokens = random_tokens(30 + 25 * i, 10 + i);
    r.sampling = {
        .max_tokens = 12, .temperature = i % 2 ? 1.f : 0.f, .seed = i, .logprobs = 3, .ignore_eos = true};
    requests.push_back(r);
  }
  std::vector<Completion> alone, together;
  for (const Request& r : requests) alone.push_back(e->generate(r));
  std::vector<RequestId> submitted;
  for (const Request& r : requests) submitted.push_back(e->submit(r));
  while (e->step()) {
  }
  for (RequestId id : submitted) together.push_back(*e->take(id));
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(ids(alone[i]), ids(together[i])) << "request " << i;
    for (size_t t = 0; t < alone[i].tokens.size(); ++t)
      EXPECT_EQ(alone[i].tokens[t].logprob, together[i].tokens[t].logprob)
          << "request " << i << " token " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Invariance,
                         ::testing::Values(Case{"reference", "tiny-glm-shared", "f32"},
                                           Case{"cpu", "tiny-glm-shared", "f32"},
                                           Case{"cpu", "tiny-glm-bf16", "bf16"},
                                           Case{"cpu", "tiny-deepseek", "f32"},
                                           Case{"reference", "tiny-glm-int8", "int8"},
                                           Case{"cpu", "tiny-glm-bf16", "int8", "int8"},
                                           Case{"cpu", "tiny-glm-fp8", "bf16", "int4", 32},
                                           Case{"cpu", "tiny-glm-int4", "int8", "auto", 8}));

}  // namespace
}  // namespace indexshare
