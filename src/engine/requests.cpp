// SPDX-License-Identifier: Apache-2.0
// Requests: step() = cancel, admit, schedule, forward, sample or verify, commit, draft.
#include <algorithm>

#include "base/check.h"
#include "engine/engine_state.h"

namespace indexshare {

namespace {

constexpr const char* kNanScores = "the index scores are NaN";

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// A caller's callback that throws ends its own request alone. @return what it threw, "" where it did not
std::string error_of_callback(const std::function<void()>& callback) {
  try {
    callback();
    return "";
  } catch (const std::exception& exception) {
    const std::string what = exception.what();
    return what.empty() ? "a callback failed" : what;
  }
}

int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::ranges::mismatch(a, b).in1 - a.begin();
}

}  // namespace

RequestId Engine::submit(Request request) {
  State& s = *state_;
  const int64_t prompt = std::ssize(request.tokens);
  if (prompt == 0) fail(ErrorCode::invalid_argument, "prompt: expected at least one token, found none");
  s.check_tokens(request.tokens);
  validate(request.sampling, s.info.vocab_size);
  if (!request.sampling.stop.empty() && !s.tokenizer)
    fail(ErrorCode::invalid_argument, "stop: needs a tokenizer, {} has none", s.info.directory);
  // The last token generated is never run through the model. Generation may reach the end of the context, and
  // ends there.
  const int64_t limit = std::min(s.info.max_positions, s.info.ctx_size);
  const int64_t max_new = std::min(request.sampling.max_tokens - 1, std::max<int64_t>(limit - prompt, 0));
  const bool owns = request.sequence == 0;
  Sequence* sequence = owns ? nullptr : &s.idle_sequence(request.sequence);
  s.check_fits(owns ? Sequence{} : *sequence, prompt + max_new);
  if (owns) sequence = &s.new_sequence();
  // What the cache already holds of this prompt is kept, except its last token: its logits are wanted.
  const int64_t common = std::min(common_prefix(sequence->tokens, request.tokens), prompt - 1);
  const int64_t reused = s.continuable(*sequence, common);
  const int64_t mtp_rows = std::min(sequence->mtp.num_rows, reused);
  if (reused > 0) s.check_keys(*sequence, s.model->config().plan);
  s.truncate(*sequence, reused);
  if (reused < common) sequence->mtp.num_rows = mtp_rows;  // the token behind them stays what it was
  const RequestId id = ++s.last_request_id;
  sequence->request = id;
  ActiveRequest active{.request = std::move(request),
                       .sequence = sequence,
                       .owns_sequence = owns,
                       .final_length = prompt + max_new,
                       .sampler = Sampler({}, {}),
                       .stop = StopMatcher({}),
                       .decoder = {},
                       .pending = {},
                       .drafts = {},
                       .completion = {},
                       .submitted = Clock::now()};
  active.sampler = Sampler(active.request.sampling, active.request.tokens);
  active.stop = StopMatcher(active.request.sampling.stop);
  if (s.tokenizer) active.decoder.emplace(*s.tokenizer, true);
  active.completion.prompt_tokens = prompt;
  active.completion.cached_tokens = reused;
  for (auto* counts : {&active.completion.drafts.proposed, &active.completion.drafts.accepted})
    counts->resize(static_cast<size_t>(s.options.draft_tokens));
  active.completion.timings.prefill_tokens = prompt - reused;
  s.requests.emplace(id, std::move(active));
  s.scheduler->enqueue(id);
  return id;
}

bool Engine::step() {
  State& s = *state_;
  s.apply_cancellations();
  s.scheduler->admit([&](RequestId id) {
    ActiveRequest& active = s.requests.at(id);
    if (!s.fits_now(active)) return false;
    s.start(active);
    return true;
  });
  if (s.scheduler->idle()) return false;
  const auto pass = s.scheduler->schedule([&](RequestId id) { return s.wanted_rows(id); });
  if (pass.empty()) {  // nobody runs, and idle sequences hold the pages the next one needs
    s.finish(s.requests.at(s.scheduler->waiting().front()), FinishReason::error,
             fmt::format("the cache has {} free pages, too few for this request; release other sequences",
                         s.cache->num_free_pages()));
  } else {
    s.run_pass(pass);
  }
  return !s.scheduler->idle();
}

void Engine::cancel(RequestId request) {
  std::lock_guard lock(state_->cancel_mutex);
  state_->cancel_wanted.insert(request);
}

std::optional<Completion> Engine::take(RequestId request) {
  const auto it = state_->requests.find(request);
  if (it == state_->requests.end())
    fail(ErrorCode::invalid_argument, "request {}: there is none of this number", request);
  if (!it->second.finished) return std::nullopt;
  Completion completion = std::move(it->second.completion);
  state_->requests.erase(it);
  return completion;
}

Completion Engine::generate(Request request) {
  const RequestId id = submit(std::move(request));
  while (true) {
    step();
    if (auto completion = take(id)) return std::move(*completion);
  }
}

bool Engine::State::fits_now(const ActiveRequest& candidate) const {
  const auto outstanding = [&](const ActiveRequest& active) {
    return cache->pages_to_grow(active.sequence->cache, active.final_length);
  };
  int64_t wanted = outstanding(candidate);
  for (RequestId id : scheduler->running()) wanted += outstanding(requests.at(id));
  return wanted <= cache->num_free_pages();
}

void Engine::State::start(ActiveRequest& active) {
  active.started_at = Clock::now();
  active.completion.timings.queue_seconds = seconds_between(active.submitted, active.started_at);
}

void Engine::State::apply_cancellations() {
  std::set<RequestId> wanted;
  {
    std::lock_guard lock(cancel_mutex);
    wanted.swap(cancel_wanted);
  }
  for (RequestId id : wanted) {
    const auto it = requests.find(id);
    if (it != requests.end() && !it->second.finished) finish(it->second, FinishReason::cancelled);
  }
}

bool Engine::State::cancel_is_wanted(RequestId request) {
  std::lock_guard lock(cancel_mutex);
  return cancel_wanted.contains(request);
}

WantedRows Engine::State::wanted_rows(RequestId id) const {
  const ActiveRequest& active = requests.at(id);
  if (active.pending) return {.num_rows = 1 + std::ssize(active.drafts), .decoding = true};
  const int64_t rest = active.completion.prompt_tokens - active.sequence->cache.length;
  return {.num_rows = rest, .decoding = rest == 1};
}

Batch Engine::State::collect(const std::vector<ScheduledRows>& pass, std::vector<Sequence*>& owners) {
  Batch batch;
  for (const ScheduledRows& rows : pass) {
    ActiveRequest& active = requests.at(rows.request);
    owners.push_back(active.sequence);
    if (active.pending) {
      std::vector<int32_t> tokens = {*active.pending};
      for (const Draft& draft : active.drafts) tokens.push_back(draft.token);
      append_rows(batch, *active.sequence, tokens);
    } else {
      const std::span<const int32_t> prompt = active.request.tokens;
      append_rows(batch, *active.sequence,
                  prompt.subspan(static_cast<size_t>(active.sequence->cache.length),
                                 static_cast<size_t>(rows.num_rows)));
    }
  }
  return batch;
}

// Whatever goes wrong ends the requests of this pass with an error, and nobody is left half-way.
void Engine::State::run_pass(const std::vector<ScheduledRows>& pass) {
  try {
    run_rows(pass);
  } catch (const std::exception& exception) {
    for (const ScheduledRows& rows : pass) {
      ActiveRequest& active = requests.at(rows.request);
      if (!active.finished) finish(active, FinishReason::error, exception.what());
    }
  }
}

void Engine::State::run_rows(const std::vector<ScheduledRows>& pass) {
  std::vector<Sequence*> owners;
  Batch batch;
  try {
    batch = collect(pass, owners);
  } catch (...) {
    roll_back(owners);
    throw;
  }
  run(batch, owners);
  std::vector<SequenceId> sequence_ids;
  for (const Sequence* owner : owners) sequence_ids.push_back(owner->id);

  std::vector<size_t> sampling;      // entries of the pass that want logits:
  std::vector<int64_t> logits_rows;  // of a prompt's last row, of the pending token's and its drafts' rows
  for (size_t i = 0; i < pass.size(); ++i) {
    ActiveRequest& active = requests.at(pass[i].request);
    const SequenceRows& rows = batch.sequences[i];
    if (!active.pending && !read_prompt(active, rows)) continue;
    sampling.push_back(i);
    for (int64_t row = active.pending ? rows.row_begin : rows.row_end - 1; row < rows.row_end; ++row)
      logits_rows.push_back(row);
  }
  if (!sampling.empty()) {
    std::span<const float> logits = model->logits(logits_rows);
    for (size_t i : sampling) {
      ActiveRequest& active = requests.at(pass[i].request);
      const SequenceRows& rows = batch.sequences[i];
      const auto count =
          static_cast<size_t>((active.pending ? rows.row_end - rows.row_begin : 1) * info.vocab_size);
      commit_rows(active, rows, logits.first(count));
      logits = logits.subspan(count);
    }
  }
  if (drafting()) draft_behind(pass, batch, sequence_ids);
}

bool Engine::State::is_invalid(int64_t row) const {
  return std::ranges::find(model->invalid_rows(), row) != model->invalid_rows().end();
}

// @return true where the prompt is at its end and its last row gives a token
bool Engine::State::read_prompt(ActiveRequest& active, const SequenceRows& rows) {
  for (int64_t row = rows.row_begin; row < rows.row_end; ++row)
    if (is_invalid(row)) {
      finish(active, FinishReason::error, kNanScores);
      return false;
    }
  const int64_t done = active.sequence->cache.length, total = active.completion.prompt_tokens;
  if (active.request.on_prefill) {
    const std::string error = error_of_callback([&] { active.request.on_prefill(done, total); });
    if (!error.empty()) {
      finish(active, FinishReason::error, error);
      return false;
    }
  }
  return done == total;
}

// Takes one token from each row for as long as the drafted token behind the row turns out to be the true one;
// the rows behind the last that did are taken back. @param logits [rows that want them, vocab]
void Engine::State::commit_rows(ActiveRequest& active, const SequenceRows& rows,
                                std::span<const float> logits) {
  const auto vocab = static_cast<size_t>(info.vocab_size);
  const size_t count = logits.size() / vocab;
  const RequestId id = active.sequence->request;
  const int64_t first_row = rows.row_end - static_cast<int64_t>(count);
  int64_t length = rows.first_position + (first_row - rows.row_begin);  // positions that hold
  Committed last;
  size_t accepted = 0;
  for (size_t i = 0; i < count; ++i) {
    ++length;
    if (is_invalid(first_row + static_cast<int64_t>(i))) {
      last = {.finish = FinishReason::error, .error = kNanScores};
      break;
    }
    const Draft* draft = i < active.drafts.size() ? &active.drafts[i] : nullptr;
    last = commit(active, logits.subspan(i * vocab, vocab), draft, length);
    accepted += last.accepted;
    if (last.finish || !last.accepted || cancel_is_wanted(id)) break;
  }
  if (!active.drafts.empty()) count_drafts(active, accepted);
  active.drafts.clear();
  truncate(*active.sequence, length);
  if (last.finish) finish(active, *last.finish, last.error);
}

// @param length positions in the cache up to the row that the logits are of
Committed Engine::State::commit(ActiveRequest& active, std::span<const float> logits, const Draft* draft,
                                int64_t length) {
  if (!active.pending) {
    active.first_token_at = Clock::now();
    active.completion.timings.prefill_seconds = seconds_between(active.started_at, active.first_token_at);
  }
  Sampler::Verdict verdict;
  try {
    verdict = draft ? active.sampler.verify(logits, *draft)
                    : Sampler::Verdict{.token = active.sampler.sample(logits)};
  } catch (const Error& error) {
    return {.finish = FinishReason::error, .error = error.what()};
  }
  Committed committed = deliver(active, std::move(verdict.token), length);
  committed.accepted = verdict.accepted;
  return committed;
}

Committed Engine::State::deliver(ActiveRequest& active, GeneratedToken token, int64_t length) {
  Completion& completion = active.completion;
  const SamplingOptions& sampling = active.request.sampling;
  if (!sampling.ignore_eos && std::ranges::find(info.eos_token_ids, token.token) != info.eos_token_ids.end())
    return {.finish = FinishReason::stop};

  if (active.decoder) token.text = active.stop.push(active.decoder->push(token.token));
  completion.text += token.text;
  active.pending = token.token;
  completion.tokens.push_back(std::move(token));
  if (active.request.on_token) {
    std::string error = error_of_callback([&] { active.request.on_token(completion.tokens.back()); });
    if (!error.empty()) return {.finish = FinishReason::error, .error = std::move(error)};
  }
  if (active.stop.stopped()) return {.finish = FinishReason::stop};
  const bool context_full = length >= active.final_length;
  if (std::ssize(completion.tokens) >= sampling.max_tokens || context_full)
    return {.finish = FinishReason::length};
  return {};
}

// Text that was held back, as it might have become a stop string or was half a character.
void Engine::State::release_held_text(ActiveRequest& active) {
  if (!active.decoder || active.stop.stopped()) return;
  Completion& completion = active.completion;
  std::string rest = active.stop.push(active.decoder->flush());
  if (active.stop.stopped()) {
    completion.finish = FinishReason::stop;
  } else {
    rest += active.stop.flush();
  }
  completion.text += rest;
  if (completion.tokens.empty() || rest.empty()) return;
  completion.tokens.back().text += rest;
  if (!active.request.on_token) return;
  const std::string error = error_of_callback(
      [&] { active.request.on_token({.token = completion.tokens.back().token, .text = rest}); });
  if (error.empty()) return;
  completion.finish = FinishReason::error;
  completion.error = error;
}

void Engine::State::finish(ActiveRequest& active, FinishReason reason, const std::string& error) {
  Completion& completion = active.completion;
  if (active.pending) {
    completion.timings.decode_seconds = seconds_between(active.first_token_at, Clock::now());
    completion.timings.decode_tokens =
        std::ssize(completion.tokens) - 1;  // the first one came from the prefill
  }
  // Where the request was cut short, the MTP layer has read a token that never entered the sequence.
  MtpHistory& mtp = active.sequence->mtp;
  mtp.num_rows = std::min(mtp.num_rows, std::max<int64_t>(std::ssize(active.sequence->tokens) - 1, 0));
  active.drafts.clear();
  scheduler->remove(active.sequence->request);
  active.sequence->request = 0;
  if (reason == FinishReason::error) truncate(*active.sequence, 0);  // its rows may be NaN or half-written
  if (active.owns_sequence) drop_sequence(active.sequence->id);
  active.sequence = nullptr;
  active.finished = true;
  completion.finish = reason;
  completion.error = error;
  if (reason != FinishReason::error) release_held_text(active);
}

}  // namespace indexshare
