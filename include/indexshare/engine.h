// SPDX-License-Identifier: Apache-2.0
// Engine: a loaded model, its paged cache and the sequences living in it. Two ways to use it:
//   requests   submit() prompts, step() until they are done: sampling, continuous batching, streaming,
//   cancelling; sequences  create, evaluate, fork and truncate one by hand: logits, perplexity, analysis.
// One thread drives an Engine; cancel() alone may be called from another. All errors are indexshare::Error.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "indexshare/error.h"
#include "indexshare/options.h"
#include "indexshare/tokenizer.h"

namespace indexshare {

using SequenceId = int64_t;  // 0 is none
using RequestId = int64_t;

struct ModelInfo {
  std::string directory, family, backend;  // backend: with instruction path and threads
  int num_layers = 0;
  std::vector<int> full_layers;  // those that run an indexer under the plan in force
  std::vector<int> source;       // [num_layers] whose selection each layer attends with
  int64_t vocab_size = 0, max_positions = 0, ctx_size = 0, index_topk = 0;
  std::vector<int32_t> eos_token_ids;
  std::string kv_cache_dtype, index_cache_dtype;  // "f32" | "bf16" | "int8"
  std::string weights;       // format of most of them: "f32" | "f16" | "bf16" | "f8_e4m3" | "int8" | "int4"
  int activation_bits = 32;  // how finely activations enter their products: 32 | 16 | 8
  std::map<std::string, size_t> weight_bytes_by_format;
  // With the MTP layer's, where it drafts.
  size_t weight_bytes = 0, latent_bytes_per_token = 0, index_key_bytes_per_token = 0;
  int64_t draft_tokens = 0;  // 0 = no drafting
  bool draft_index_share = false;
  bool cost_only = false;  // some layers run another layer's indexer: costs are real, answers are not
};

/// How drafts fared. A round is one verification of at least one drafted token.
struct DraftStatistics {
  uint64_t rounds = 0;
  std::vector<uint64_t> proposed, accepted;  // [draft_tokens] by place in the draft, the next token's first
  double accepted_length() const;            // tokens a round gains, the one that the target adds included
};

/// Work done since load; padding never counts. FLOPs count a multiply-add as two, attention in absorbed form.
/// Seconds are wall time of the same parts; index_selection is scoring and choosing, other the norms, sums
/// and lookups between the parts.
struct Counters {
  uint64_t tokens = 0;  // rows run through the model
  uint64_t forward_passes = 0;
  uint64_t indexer_passes = 0;  // indexer runs: full layers x forward passes
  struct Flops {
    uint64_t projections = 0, indexer_projections = 0, index_scores = 0, attention = 0, mlp = 0, head = 0;
    uint64_t total() const {
      return projections + indexer_projections + index_scores + attention + mlp + head;
    }
  } flops;
  struct Seconds {
    double projections = 0, indexer_projections = 0, index_selection = 0, attention = 0, mlp = 0, head = 0,
           other = 0;
  } seconds;
  /// The MTP layer's work, which the fields above leave out.
  struct Drafting {
    DraftStatistics statistics;
    uint64_t rows = 0, passes = 0, indexer_passes = 0;
    Flops flops;
    Seconds seconds;
  } drafting;
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct GeneratedToken {
  int32_t token = 0;
  std::string
      text;  // what became complete with this token: never half a UTF-8 character, nothing of a stop string
  float logprob =
      0;  // of the model's own distribution, before temperature and truncation; set where asked for
  std::vector<TokenLogprob> top_logprobs;
};

enum class FinishReason { stop, length, cancelled, error };

struct Timings {
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
  int64_t prefill_tokens = 0, decode_tokens = 0;  // prefill_tokens: without those found in the cache
};

struct Completion {
  std::vector<GeneratedToken> tokens;  // without the end-of-text token
  std::string text;
  FinishReason finish = FinishReason::stop;
  std::string error;  // where finish == error
  int64_t prompt_tokens = 0, cached_tokens = 0;
  DraftStatistics drafts;
  Timings timings;
};

struct Request {
  std::vector<int32_t> tokens;  // the whole prompt
  SamplingOptions sampling;
  /// A sequence to continue: what its cache and `tokens` have in common is reused, the rest of it is dropped;
  /// it stays alive afterwards. 0: a new sequence, released at the end.
  SequenceId sequence = 0;
  Progress on_prefill;  // tokens of the prompt
  /// May call cancel(). Text held back as the beginning of a stop string or of a character comes at the end,
  /// in one more call with the last token. An exception from a callback ends this request with
  /// FinishReason::error.
  std::function<void(const GeneratedToken&)> on_token;
};

/// Called with each wanted row of logits [vocab_size], in order of position.
using LogitsSink = std::function<void(int64_t position, std::span<const float> logits)>;

/// Called after each full layer's selection with positions [num_rows, width] (ascending, -1 padded) of the
/// rows at first_position, first_position + 1, ...; it may overwrite them, keeping order and padding. For
/// analysis and tests.
using SelectionHook = std::function<void(int layer, int64_t first_position, int64_t num_rows, int64_t width,
                                         std::span<int32_t> positions)>;

/// Called with the logits of each step of the round of drafts that would begin at each row, fed with the
/// tokens that follow there: step s >= 1 at `position` predicts the token at position + s + 1.
using DraftSink = std::function<void(int64_t position, int64_t step, std::span<const float> logits)>;

/// Called in every layer for each of the wanted rows, layers ascending: the softmax that dense attention
/// would give the row there, probabilities [num_heads, position + 1], and the positions the layer attends
/// with (ascending; none in dense mode). For analysis; costs as much as dense attention of the row and more.
using AttentionProbe = std::function<void(int layer, int64_t position, std::span<const float> probabilities,
                                          std::span<const int32_t> selection)>;

struct EvaluateOptions {
  bool all_rows = true;  // logits of every row, or of the last alone
  LogitsSink sink;
  SelectionHook selection_hook;
  DraftSink draft_sink;  // needs draft_tokens; steps whose token is not among those evaluated are left out
  Progress progress;
  /// Another share plan for these tokens, F or S a layer; "" is the plan in force. Its full layers must be
  /// full in the loaded plan too, and must have been so for every position the sequence holds already.
  std::string pattern;
  bool dense = false;  // attend every position for these tokens, and run no indexer
  AttentionProbe attention_probe;
  std::vector<int64_t> probe_positions;  // those of the probe's rows, ascending
};

class Engine {
 public:
  /// @param model a directory in Hugging Face's format, or org/name in the local HF cache (never downloaded).
  /// @throws Error{not_found, unsupported, out_of_memory, device, invalid_argument}
  static std::unique_ptr<Engine> load(const std::string& model, const EngineOptions& options = {});
  ~Engine();

  const ModelInfo& info() const;
  const Tokenizer& tokenizer() const;        // @throws Error{unsupported} where the model has no usable one
  SamplingOptions default_sampling() const;  // generation_config.json's, where there is one
  Counters counters() const;

  // Requests.
  /// Queues a prompt. @throws Error{invalid_argument} for bad tokens or options, Error{out_of_memory} with
  /// numbers where prompt and max_tokens can never fit the cache or the machine's memory.
  RequestId submit(Request request);
  bool step();                     // one forward pass over whoever is ready; false when nothing is left to do
  void cancel(RequestId request);  // takes effect at the next step boundary
  std::optional<Completion> take(RequestId request);  // once finished; the request is then forgotten
  Completion generate(Request request);               // submit, step until done, take

  // Sequences.
  SequenceId create_sequence();
  SequenceId fork(SequenceId sequence);                // shares all pages until one of the two writes
  void truncate(SequenceId sequence, int64_t length);  // latents and index keys together
  void release(SequenceId sequence);
  int64_t length(SequenceId sequence) const;  // positions in the cache
  std::vector<int32_t> tokens(SequenceId sequence) const;
  /// An exception, the caller's included, leaves the sequence as it was.
  void evaluate(SequenceId sequence, std::span<const int32_t> tokens, const EvaluateOptions& options);
  /// Fills the cache up to `length` with normally distributed rows: costs at a depth without its prefill.
  void fill_random(SequenceId sequence, int64_t length, uint64_t seed);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace indexshare
