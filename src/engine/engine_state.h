// SPDX-License-Identifier: Apache-2.0
// What an Engine holds. The public methods are spread by theme: load.cpp, requests.cpp, sequences.cpp.
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
  Completion completion;
  bool finished = false;
  Clock::time_point submitted, started_at, first_token_at;
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

  /// Rows of one sequence's next tokens, appended to a batch; its cache is grown.
  void append_rows(Batch& batch, Sequence& sequence, std::span<const int32_t> tokens);
  /// Runs a batch; on an exception every sequence is back at its former length.
  void run(Batch& batch, std::span<Sequence* const> sequences);
  void roll_back(std::span<Sequence* const> sequences);

  // requests.cpp
  bool fits_now(const ActiveRequest& candidate) const;
  void start(ActiveRequest& active);
  Batch collect(const std::vector<ScheduledRows>& pass, std::vector<Sequence*>& owners);
  void apply_cancellations();
  void run_pass(const std::vector<ScheduledRows>& pass);
  void run_rows(const std::vector<ScheduledRows>& pass);
  bool notify(ActiveRequest& active, const std::function<void()>& callback);
  void commit(ActiveRequest& active, std::span<const float> logits);
  void release_held_text(ActiveRequest& active);
  void finish(ActiveRequest& active, FinishReason reason, const std::string& error = "");
};

}  // namespace indexshare
