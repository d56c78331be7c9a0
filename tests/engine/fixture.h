// SPDX-License-Identifier: Apache-2.0
// What the engine tests share: the random checkpoints that ctest writes, token sequences, logits of a
// sequence.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "indexshare/engine.h"

namespace indexshare {

inline std::string fixture(const std::string& name) {
  return std::string(INDEXSHARE_BINARY_DIR "/fixtures/") + name;
}

inline std::vector<int32_t> random_tokens(size_t count, uint64_t seed, int32_t vocab = 256) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
  return tokens;
}

inline std::unique_ptr<Engine> load(const std::string& name, EngineOptions options = {}) {
  if (options.ctx_size == 0) options.ctx_size = 4096;
  return Engine::load(fixture(name), options);
}

/// Runs tokens on the sequence. @return [tokens.size(), vocab]
inline std::vector<float> logits_of(Engine& engine, SequenceId sequence, std::span<const int32_t> tokens) {
  std::vector<float> all;
  engine.evaluate(sequence, tokens, {.sink = [&](int64_t, std::span<const float> row) {
                    all.insert(all.end(), row.begin(), row.end());
                  }});
  return all;
}

inline std::vector<float> logits_of(Engine& engine, std::span<const int32_t> tokens) {
  const SequenceId sequence = engine.create_sequence();
  std::vector<float> all = logits_of(engine, sequence, tokens);
  engine.release(sequence);
  return all;
}

inline std::vector<int32_t> ids(const Completion& completion) {
  std::vector<int32_t> result;
  for (const GeneratedToken& token : completion.tokens) result.push_back(token.token);
  return result;
}

}  // namespace indexshare
