// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "fixture.h"

namespace indexshare {
namespace {

Request greedy(std::vector<int32_t> tokens, int64_t max_tokens = 10) {
  Request r;
  r.tokens = std::move(tokens);
  r.sampling = {.max_tokens = max_tokens, .temperature = 0, .ignore_eos = true};
  return r;
}

// The sentence of the error that `call` throws, or "" where it throws none.
template <class F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Requests, GreedyEqualsTheArgmaxOfEvaluate) {
  const auto e = load("tiny-glm-shared");
  auto tokens = random_tokens(90, 1);
  const Completion c = e->generate(greedy(tokens));
  EXPECT_EQ(c.finish, FinishReason::length);
  EXPECT_EQ(c.prompt_tokens, 90);
  for (int32_t expected : ids(c)) {
    const auto logits = logits_of(*e, tokens);
    const auto last = logits.end() - e->info().vocab_size;
    EXPECT_EQ(std::max_element(last, logits.end()) - last, expected);
    tokens.push_back(expected);
  }
}

TEST(Requests, ASequenceReusesWhatItHas) {
  const auto e = load("tiny-glm-shared");
  const SequenceId s = e->create_sequence();
  Request first = greedy(random_tokens(80, 2), 5);
  first.sequence = s;
  const Completion a = e->generate(first);
  EXPECT_EQ(a.cached_tokens, 0);
  EXPECT_EQ(e->length(s), 84);  // the last token was never run

  Request second = first;
  for (int32_t id : ids(a)) second.tokens.push_back(id);
  for (int32_t id : random_tokens(20, 3)) second.tokens.push_back(id);
  const Completion b = e->generate(second);
  EXPECT_EQ(b.cached_tokens, 84);
  second.sequence = 0;
  EXPECT_EQ(ids(e->generate(second)), ids(b));

  Request edited = first;  // another turn instead: the tail is dropped
  edited.tokens[70] ^= 1;
  const Completion d = e->generate(edited);
  EXPECT_EQ(d.cached_tokens, 70);
  edited.sequence = 0;
  EXPECT_EQ(ids(e->generate(edited)), ids(d));
}

TEST(Requests, EosAndStopStringsEnd) {
  const auto e = load("tiny-glm-shared");
  const auto tokens = random_tokens(50, 4);
  const Completion free_run = e->generate(greedy(tokens, 20));
  Request biased = greedy(tokens, 20);
  biased.sampling.ignore_eos = false;
  biased.sampling.logit_bias[e->info().eos_token_ids.at(0)] = 1000;
  const Completion ended = e->generate(biased);
  EXPECT_EQ(ended.finish, FinishReason::stop);
  EXPECT_TRUE(ended.tokens.empty());

  ASSERT_GT(free_run.text.size(), 4u);
  Request stopped = greedy(tokens, 20);
  stopped.sampling.stop = {free_run.text.substr(3, 2)};
  const Completion c = e->generate(stopped);
  EXPECT_EQ(c.finish, FinishReason::stop);
  EXPECT_EQ(c.text, free_run.text.substr(0, free_run.text.find(stopped.sampling.stop[0])));
}

TEST(Requests, StreamedPiecesMakeUpTheText) {
  const auto e = load("tiny-glm-shared");
  Request r = greedy(random_tokens(40, 5), 30);
  std::string streamed;
  int64_t progress = 0;
  r.on_token = [&](const GeneratedToken& token) { streamed += token.text; };
  r.on_prefill = [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 40);
    EXPECT_GT(done, progress);
    progress = done;
  };
  EXPECT_EQ(e->generate(r).text, streamed);
  EXPECT_EQ(progress, 40);
}

TEST(Requests, CancellingFreesTheCacheWithinAStep) {
  const auto e = load("tiny-glm-shared", {.ctx_size = 256});
  Request endless = greedy(random_tokens(100, 6), 100);
  int generated = 0;
  RequestId id = 0;
  endless.on_token = [&](const GeneratedToken&) {
    if (++generated == 5) e->cancel(id);
  };
  id = e->submit(endless);
  while (e->step()) {
  }
  const Completion c = *e->take(id);
  EXPECT_EQ(c.finish, FinishReason::cancelled);
  EXPECT_EQ(c.tokens.size(), 5u);
  EXPECT_EQ(e->generate(greedy(random_tokens(250, 7), 5)).tokens.size(),
            5u);  // the whole cache is free again
}

TEST(Requests, WhoDoesNotFitYetWaitsAndThenGetsTheSame) {
  const auto e = load("tiny-glm-shared", {.ctx_size = 256});
  std::vector<RequestId> submitted;
  for (uint64_t i = 0; i < 4; ++i) submitted.push_back(e->submit(greedy(random_tokens(120, 20 + i), 8)));
  while (e->step()) {
  }
  for (uint64_t i = 0; i < 4; ++i)
    EXPECT_EQ(ids(*e->take(submitted[i])), ids(e->generate(greedy(random_tokens(120, 20 + i), 8))));
}

TEST(Requests, WhatCanNeverFitIsRefusedWithNumbersBeforePrefill) {
  const auto e = load("tiny-glm-shared", {.ctx_size = 128});
  const std::string message = error_of([&] { e->submit(greedy(random_tokens(129, 8))); });
  EXPECT_NE(message.find("129"), std::string::npos) << message;
  EXPECT_NE(message.find("128"), std::string::npos) << message;
  EXPECT_EQ(e->counters().tokens, 0u);
}

TEST(Requests, GenerationEndsAtTheEndOfTheContext) {
  const auto e = load("tiny-glm-shared", {.ctx_size = 128});
  const Completion c = e->generate(greedy(random_tokens(120, 9), 1000));
  EXPECT_EQ(c.finish, FinishReason::length);
  EXPECT_EQ(c.tokens.size(), 9u);  // 8 positions are left, and the last token needs none
}

TEST(Requests, IdleSequencesThatHoldTheCacheAreNamed) {
  const auto e = load("tiny-glm-shared", {.ctx_size = 128});
  const SequenceId holder = e->create_sequence();
  logits_of(*e, holder, random_tokens(100, 10));
  const Completion c = e->generate(greedy(random_tokens(100, 11)));
  EXPECT_EQ(c.finish, FinishReason::error);
  EXPECT_NE(c.error.find("release other sequences"), std::string::npos) << c.error;
  e->release(holder);
  EXPECT_EQ(e->generate(greedy(random_tokens(100, 11))).finish, FinishReason::length);
}

TEST(Requests, BadInputIsNamed) {
  const auto e = load("tiny-glm-shared");
  EXPECT_NE(error_of([&] { e->submit(greedy({})); }).find("prompt"), std::string::npos);
  EXPECT_NE(error_of([&] { e->submit(greedy({1, 320})); }).find("token 320 at position 1"),
            std::string::npos);
  EXPECT_NE(error_of([&] { e->submit(greedy({-1})); }).find("token -1"), std::string::npos);
  Request r = greedy({1});
  r.sampling.top_p = 2;
  EXPECT_NE(error_of([&] { e->submit(r); }).find("top_p"), std::string::npos);
  EXPECT_NE(error_of([&] { e->truncate(99, 0); }).find("sequence 99"), std::string::npos);
  EXPECT_NE(error_of([&] { e->take(99); }).find("request 99"), std::string::npos);
}

// Bad input 45: the tokenizer knows ids that the model has no embedding for.
TEST(Requests, Input45TokenizerBeyondTheVocabulary) {
  const std::string model = std::string(INDEXSHARE_SOURCE_DIR) + "/models/indexshare-tiny";
  const std::string message = error_of([&] {
    Tokenizer tokenizer = Tokenizer::load(model);
    const std::filesystem::path mixed =
        std::filesystem::path(INDEXSHARE_BINARY_DIR) / "fixtures/mixed-tokenizer";
    std::filesystem::remove_all(mixed);
    std::filesystem::copy(fixture("tiny-glm-shared"), mixed, std::filesystem::copy_options::recursive);
    std::filesystem::copy(model + "/tokenizer.json", mixed / "tokenizer.json",
                          std::filesystem::copy_options::overwrite_existing);
    const auto e = Engine::load(mixed.string(), {.ctx_size = 512});
    EXPECT_EQ(logits_of(*e, random_tokens(10, 1)).size(), 10u * 320u);  // numbers need no text
    e->tokenizer();
  });
  EXPECT_NE(message.find("tokenizer.json"), std::string::npos) << message;
  EXPECT_NE(message.find("320"), std::string::npos) << message;
  EXPECT_NE(message.find("4095"), std::string::npos) << message;
}

TEST(Requests, AnyContextSizeIsKeptToTheToken) {
  for (int64_t ctx_size : {1, 5, 7, 20, 100}) {
    const auto e = load("tiny-glm-shared", {.ctx_size = ctx_size});
    const Completion c = e->generate(greedy(random_tokens(1, 1), 200));
    EXPECT_EQ(c.finish, FinishReason::length) << c.error;
    EXPECT_EQ(std::ssize(c.tokens), ctx_size);
    EXPECT_NE(error_of([&] { e->submit(greedy(random_tokens(static_cast<size_t>(ctx_size) + 1, 1), 1)); }),
              "");
  }
}

TEST(Requests, ACallbackThatThrowsEndsItsOwnRequestAlone) {
  const auto e = load("tiny-glm-shared");
  const auto expected = ids(e->generate(greedy(random_tokens(60, 2))));
  for (const bool while_reading : {true, false}) {
    Request bad = greedy(random_tokens(60, 1));
    if (while_reading) {
      bad.on_prefill = [](int64_t, int64_t) { throw std::runtime_error("no more"); };
    } else {
      bad.on_token = [](const GeneratedToken&) { throw std::runtime_error("no more"); };
    }
    const RequestId a = e->submit(bad), b = e->submit(greedy(random_tokens(60, 2)));
    while (e->step()) {
    }
    const Completion failed = *e->take(a);
    EXPECT_EQ(failed.finish, FinishReason::error);
    EXPECT_NE(failed.error.find("no more"), std::string::npos);
    EXPECT_EQ(ids(*e->take(b)), expected);
  }
}

TEST(Requests, AFailedEvaluationLeavesTheSequenceAsItWas) {
  const auto e = load("tiny-glm-shared", {.chunk_size = 16});
  const SequenceId s = e->create_sequence();
  logits_of(*e, s, random_tokens(20, 1));
  int chunks = 0;
  EXPECT_THROW(e->evaluate(s, random_tokens(60, 2),
                           {.progress =
                                [&](int64_t, int64_t) {
                                  if (++chunks == 2) throw std::runtime_error("enough");
                                }}),
               std::runtime_error);
  EXPECT_EQ(e->length(s), 20);
  auto all = random_tokens(20, 1);
  const auto more = random_tokens(30, 3);
  const auto continued = logits_of(*e, s, more);
  all.insert(all.end(), more.begin(), more.end());
  const auto fresh = logits_of(*e, all);
  EXPECT_TRUE(std::equal(continued.rbegin(), continued.rend(), fresh.rbegin()));
}

TEST(Requests, FilledRowsAreNeverReused) {
  const auto e = load("tiny-glm-shared");
  const SequenceId s = e->create_sequence();
  e->fill_random(s, 50, 1);
  Request r = greedy(std::vector<int32_t>(60, 0));
  r.sequence = s;
  EXPECT_EQ(e->generate(r).cached_tokens, 0);
}

TEST(Requests, HeldTextComesInOrder) {
  const auto e = load("tiny-glm-shared");
  Request r = greedy(random_tokens(20, 1), 3);
  r.sampling.logit_bias[0xE2] = 1000;  // a byte that begins a character, three times
  EXPECT_EQ(e->generate(r).text, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  r.sampling.stop = {"\xEF\xBF\xBDX"};
  EXPECT_EQ(e->generate(r).text, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

// A checkpoint whose embedding of token 7 is NaN: whoever uses the token fails, its neighbours do not notice.
TEST(Requests, NanFailsOneSequenceAlone) {
  const std::filesystem::path poisoned =
      std::filesystem::path(INDEXSHARE_BINARY_DIR) / "fixtures/tiny-glm-poisoned";
  std::filesystem::remove_all(poisoned);
  std::filesystem::copy(fixture("tiny-glm-shared"), poisoned, std::filesystem::copy_options::recursive);
  {
    const std::filesystem::path file = poisoned / "model.safetensors";
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    uint64_t header_bytes = 0;
    f.read(reinterpret_cast<char*>(&header_bytes), 8);
    std::string header(header_bytes, ' ');
    f.read(header.data(), static_cast<std::streamsize>(header_bytes));
    const size_t entry = header.find("\"model.embed_tokens.weight\"");
    const size_t offsets = header.find("data_offsets", entry);
    const int64_t begin = std::stoll(header.substr(header.find('[', offsets) + 1));
    const std::vector<float> nan(64, std::nanf(""));  // one row of hidden 64
    f.seekp(static_cast<std::streamoff>(8 + header_bytes) + begin + 7 * 64 * 4);
    f.write(reinterpret_cast<const char*>(nan.data()), 64 * 4);
  }
  EngineOptions options{.ctx_size = 4096};
  const auto e = Engine::load(poisoned.string(), options);
  auto healthy = random_tokens(80, 12), sick = random_tokens(80, 13);
  for (auto* tokens : {&healthy, &sick}) std::replace(tokens->begin(), tokens->end(), 7, 8);
  const auto expected = ids(e->generate(greedy(healthy)));
  sick[60] = 7;
  Request sick_request = greedy(sick), healthy_request = greedy(healthy);
  healthy_request.sampling.logit_bias[7] = sick_request.sampling.logit_bias[7] = -1000;
  const RequestId a = e->submit(sick_request), b = e->submit(healthy_request);
  while (e->step()) {
  }
  const Completion failed = *e->take(a);
  EXPECT_EQ(failed.finish, FinishReason::error);
  EXPECT_FALSE(failed.error.empty());
  EXPECT_EQ(ids(*e->take(b)), expected);
  EXPECT_EQ(ids(e->generate(healthy_request)), expected);  // recycled pages carry no NaN over
  EXPECT_THROW(logits_of(*e, sick), Error);
  EXPECT_NE(error_of([&] {
              EngineOptions check{.ctx_size = 4096, .check_tensors = true};
              Engine::load(poisoned.string(), check);
            }).find("model.embed_tokens.weight"),
            std::string::npos);
}

}  // namespace
}  // namespace indexshare
