// SPDX-License-Identifier: Apache-2.0
#include "indexshare/options.h"

#include <cmath>
#include <limits>

#include "base/check.h"

namespace indexshare {

namespace {

template <class T>
void require(bool holds, const char* field, const char* expected, const T& found) {
  if (!holds) fail(ErrorCode::invalid_argument, "{}: expected {}, found {}", field, expected, found);
}

}  // namespace

void validate(const EngineOptions& o) {
  constexpr int64_t kMaxPositions = std::numeric_limits<int32_t>::max();  // positions and slots are int32
  require(o.threads >= 0 && o.threads <= 4096, "threads", "0 (automatic) to 4096", o.threads);
  require(o.ctx_size >= 0 && o.ctx_size <= kMaxPositions, "ctx_size", "0 (the model's maximum) to 2147483647",
          o.ctx_size);
  require(o.chunk_size >= 1 && o.chunk_size <= 65536, "chunk_size", "1 to 65536", o.chunk_size);
  // A sequence's token and its drafts are verified in one forward pass.
  require(o.draft_tokens >= 0 && o.draft_tokens <= 32 && o.draft_tokens < o.chunk_size, "draft_tokens",
          "0 (off) to 32, less than chunk_size", o.draft_tokens);
  require(o.max_sequences >= 1 && o.max_sequences <= 65536, "max_sequences", "1 to 65536", o.max_sequences);
  for (const auto& [field, value] :
       {std::pair{"kv_cache_dtype", o.kv_cache_dtype}, {"index_cache_dtype", o.index_cache_dtype}})
    require(value == "auto" || value == "f32" || value == "bf16" || value == "int8", field,
            "auto, f32, bf16 or int8", value);
  require(o.weights == "auto" || o.weights == "int8" || o.weights == "int4", "weights", "auto, int8 or int4",
          o.weights);
  require(
      o.activation_bits == 0 || o.activation_bits == 8 || o.activation_bits == 16 || o.activation_bits == 32,
      "activation_bits", "0 (automatic), 8, 16 or 32", o.activation_bits);
}

void validate(const SamplingOptions& o, int64_t vocab_size) {
  require(o.max_tokens >= 1, "max_tokens", "at least 1", o.max_tokens);
  require(o.temperature >= 0 && o.temperature <= 100, "temperature", "0 (greedy) to 100", o.temperature);
  require(o.top_k >= 0, "top_k", "0 (off) or more", o.top_k);
  require(o.top_p > 0 && o.top_p <= 1, "top_p", "more than 0, at most 1", o.top_p);
  require(o.min_p >= 0 && o.min_p <= 1, "min_p", "0 to 1", o.min_p);
  require(o.repetition_penalty > 0 && o.repetition_penalty <= 100, "repetition_penalty",
          "more than 0, at most 100", o.repetition_penalty);
  require(std::fabs(o.presence_penalty) <= 100, "presence_penalty", "-100 to 100", o.presence_penalty);
  require(std::fabs(o.frequency_penalty) <= 100, "frequency_penalty", "-100 to 100", o.frequency_penalty);
  require(o.logprobs >= -1 && o.logprobs <= vocab_size, "logprobs", "-1 (none) to the size of the vocabulary",
          o.logprobs);
  for (const std::string& stop : o.stop)
    require(!stop.empty(), "stop", "strings of at least one byte", "an empty one");
  for (const auto& [token, bias] : o.logit_bias) {
    require(token >= 0 && token < vocab_size, "logit_bias", "token ids below the vocabulary's size", token);
    require(std::isfinite(bias) && std::fabs(bias) <= 1e6f, "logit_bias", "biases from -1e6 to 1e6", bias);
  }
}

}  // namespace indexshare
