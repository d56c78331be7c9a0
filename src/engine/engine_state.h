// SPDX-License-Identifier: Apache-2.0
// What an Engine holds. The public methods are spread by theme: load.cpp, requests.cpp, drafts.cpp,
// sequences.cpp.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "cache/paged_cache.h"
#include "engine/generation_config.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/stop_matcher.h"
#include "indexshare/engine.h"
#include "model/model.h"

namespace indexshare {

using Clock = std::chrono::steady_clock;

/// A request from submit() to take().
struct ActiveRequest {
  Request request;
  Sequence* sequence = nullptr;
  bool owns_sequence = false;
  int64_t final_length = 0;  // positions its cache may reach: what admission reserves
  Sampler sampler;
  StopMatcher stop;
  std::optional<StreamDecoder> decoder;
  std::optional<int32_t> pending;  // sampled, not yet run through the model
  std::vector<Draft> drafts;       // guesses of the tokens behind the pending one
  Completion completion;
  bool finished = false;
  Clock::time_point submitted, started_at, first_token_at;
};

/// A sequence of the last forward pass, for the MTP layer to read on.
struct MtpReading {
  SequenceId sequence = 0;
  int64_t first_row = 0, first_position = 0;  // of the sequence's rows in that pass
  std::optional<int32_t> next;                // the token behind its last one, where known
  ActiveRequest* drafter = nullptr;           // wants `num_drafts` drafts
  int64_t num_drafts = 0;
};

/// The rows that the MTP layer read.
struct MtpPass {
  Batch batch;
  std::vector<float> hidden;       // [rows, hidden]
  std::vector<int64_t> last_rows;  // of each reading; -1 where nothing could be read
};

/// What one token of a request came to.
struct Committed {
  std::optional<FinishReason> finish;
  std::string error;
  bool accepted = false;  // it is the drafted token
};

struct Engine::State {
  EngineOptions options;
  ModelInfo info;
  GenerationConfig generation;
  std::optional<Tokenizer> tokenizer;
  std::string tokenizer_problem;  // why there is none
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<PagedCache> cache;

  std::map<SequenceId, Sequence> sequences;
  SequenceId last_sequence_id = 0;
  std::map<RequestId, ActiveRequest> requests;
  RequestId last_request_id = 0;
  std::optional<Scheduler> scheduler;
  std::mutex cancel_mutex;
  std::set<RequestId> cancel_wanted;
  DraftStatistics drafts;

  void load_tokenizer(const std::filesystem::path& directory, int64_t vocab_size);  // load.cpp
  void fill_info(const std::filesystem::path& directory);                           // load.cpp

  // sequences.cpp
  Sequence& find_sequence(SequenceId id);
  Sequence& idle_sequence(SequenceId id);  // @throws where a request runs on it
  Sequence& new_sequence();
  void drop_sequence(SequenceId id);
  void truncate(Sequence& sequence, int64_t length);
  void check_tokens(std::span<const int32_t> tokens) const;
  void check_fits(const Sequence& sequence, int64_t final_length) const;

  // plans.cpp
  SharePlan plan_of(const EvaluateOptions& wanted) const;
  void check_keys(const Sequence& sequence, const SharePlan& plan) const;
  void note_missing_keys(Sequence& sequence, const SharePlan& plan, bool dense) const;

  /// Rows of one sequence's next tokens, appended to a batch; its cache is grown.
  void append_rows(Batch& batch, Sequence& sequence, std::span<const int32_t> tokens);
  /// Runs a batch; on an exception every sequence is back at its former length.
  void run(Batch& batch, std::span<Sequence* const> sequences);
  void roll_back(std::span<Sequence* const> sequences);

  // requests.cpp
  bool fits_now(const ActiveRequest& candidate) const;
  void start(ActiveRequest& active);
  WantedRows wanted_rows(RequestId id) const;
  Batch collect(const std::vector<ScheduledRows>& pass, std::vector<Sequence*>& owners);
  void apply_cancellations();
  bool cancel_is_wanted(RequestId request);
  void run_pass(const std::vector<ScheduledRows>& pass);
  void run_rows(const std::vector<ScheduledRows>& pass);
  bool is_invalid(int64_t row) const;
  bool read_prompt(ActiveRequest& active, const SequenceRows& rows);
  void commit_rows(ActiveRequest& active, const SequenceRows& rows, std::span<const float> logits);
  Committed commit(ActiveRequest& active, std::span<const float> logits, const Draft* draft, int64_t length);
  Committed deliver(ActiveRequest& active, GeneratedToken token, int64_t length);
  void release_held_text(ActiveRequest& active);
  void finish(ActiveRequest& active, FinishReason reason, const std::string& error = "");

  // drafts.cpp
  bool drafting() const { return options.draft_tokens > 0; }
  /// The longest length up to `length` from which a sequence can go on with the MTP layer missing nothing.
  int64_t continuable(const Sequence& sequence, int64_t length) const;
  void draft_behind(const std::vector<ScheduledRows>& pass, const Batch& batch,
                    std::span<const SequenceId> owners);
  MtpPass read_by_mtp(std::span<const MtpReading> readings);
  bool add_mtp_rows(MtpPass& pass, const MtpReading& reading);
  void draft_round(std::span<const MtpReading> drafters, std::span<const int64_t> last_rows);
  void count_drafts(ActiveRequest& active, size_t accepted);
  /// @param text all tokens of the sequence that are known, those of the batch and behind it included
  void emit_drafts(const Sequence& sequence, const Batch& batch, std::span<const int32_t> text,
                   const DraftSink& sink);
};

}  // namespace indexshare
