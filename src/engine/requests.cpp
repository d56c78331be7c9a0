// SPDX-License-Identifier: Apache-2.0
// Requests: step() = cancel, admit, schedule, forward, sample, commit.
#include <algorithm>

#include "base/check.h"
#include "engine/engine_state.h"

namespace indexshare {

namespace {

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
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
  const int64_t reused = std::min(common_prefix(sequence->tokens, request.tokens), prompt - 1);
  s.truncate(*sequence, reused);
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
                       .completion = {},
                       .submitted = Clock::now()};
  active.sampler = Sampler(active.request.sampling, active.request.tokens);
  active.stop = StopMatcher(active.request.sampling.stop);
  if (s.tokenizer) active.decoder.emplace(*s.tokenizer, true);
  active.completion.prompt_tokens = prompt;
  active.completion.cached_tokens = reused;
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
  const auto pass = s.scheduler->schedule([&](RequestId id) -> int64_t {
    const ActiveRequest& active = s.requests.at(id);
    return active.pending ? 1 : active.completion.prompt_tokens - active.sequence->cache.length;
  });
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

Batch Engine::State::collect(const std::vector<ScheduledRows>& pass, std::vector<Sequence*>& owners) {
  Batch batch;
  for (const ScheduledRows& rows : pass) {
    ActiveRequest& active = requests.at(rows.request);
    const std::span<const int32_t> prompt = active.request.tokens;
    owners.push_back(active.sequence);
    append_rows(batch, *active.sequence,
                active.pending ? std::span<const int32_t>(&*active.pending, 1)
                               : prompt.subspan(static_cast<size_t>(active.sequence->cache.length),
                                                static_cast<size_t>(rows.num_rows)));
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

// A caller's callback that throws ends its own request alone. @return false where it did
bool Engine::State::notify(ActiveRequest& active, const std::function<void()>& callback) {
  try {
    callback();
    return true;
  } catch (const std::exception& exception) {
    finish(active, FinishReason::error, fmt::format("a callback failed: {}", exception.what()));
    return false;
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

  std::vector<size_t> sampling;  // entries of the pass whose last row gives a token
  std::vector<int64_t> logits_rows;
  for (size_t i = 0; i < pass.size(); ++i) {
    ActiveRequest& active = requests.at(pass[i].request);
    const SequenceRows& rows = batch.sequences[i];
    const bool invalid = std::ranges::any_of(
        model->invalid_rows(), [&](int64_t row) { return row >= rows.row_begin && row < rows.row_end; });
    if (invalid) {
      finish(active, FinishReason::error, "the index scores are NaN");
      continue;
    }
    const int64_t done = std::min(active.sequence->cache.length, active.completion.prompt_tokens);
    if (!active.pending && active.request.on_prefill &&
        !notify(active, [&] { active.request.on_prefill(done, active.completion.prompt_tokens); }))
      continue;
    if (active.sequence->cache.length < active.completion.prompt_tokens) continue;
    sampling.push_back(i);
    logits_rows.push_back(rows.row_end - 1);
  }
  if (sampling.empty()) return;
  const std::span<const float> logits = model->logits(logits_rows);
  const size_t vocab = static_cast<size_t>(info.vocab_size);
  for (size_t i = 0; i < sampling.size(); ++i)
    commit(requests.at(pass[sampling[i]].request), logits.subspan(i * vocab, vocab));
}

void Engine::State::commit(ActiveRequest& active, std::span<const float> logits) {
  Completion& completion = active.completion;
  if (!active.pending) {
    active.first_token_at = Clock::now();
    completion.timings.prefill_seconds = seconds_between(active.started_at, active.first_token_at);
  }
  GeneratedToken sampled;
  try {
    sampled = active.sampler.sample(logits);
  } catch (const Error& error) {
    return finish(active, FinishReason::error, error.what());
  }
  const SamplingOptions& sampling = active.request.sampling;
  if (!sampling.ignore_eos &&
      std::ranges::find(info.eos_token_ids, sampled.token) != info.eos_token_ids.end())
    return finish(active, FinishReason::stop);

  if (active.decoder) sampled.text = active.stop.push(active.decoder->push(sampled.token));
  completion.text += sampled.text;
  completion.tokens.push_back(sampled);
  active.pending = sampled.token;
  if (active.request.on_token && !notify(active, [&] { active.request.on_token(completion.tokens.back()); }))
    return;
  if (active.stop.stopped()) return finish(active, FinishReason::stop);
  const bool context_full = active.sequence->cache.length >= active.final_length;
  if (std::ssize(completion.tokens) >= sampling.max_tokens || context_full)
    finish(active, FinishReason::length);
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
  try {
    active.request.on_token({.token = completion.tokens.back().token, .text = rest});
  } catch (const std::exception& exception) {
    completion.finish = FinishReason::error;
    completion.error = fmt::format("a callback failed: {}", exception.what());
  }
}

void Engine::State::finish(ActiveRequest& active, FinishReason reason, const std::string& error) {
  Completion& completion = active.completion;
  if (active.pending) {
    completion.timings.decode_seconds = seconds_between(active.first_token_at, Clock::now());
    completion.timings.decode_tokens =
        std::ssize(completion.tokens) - 1;  // the first one came from the prefill
  }
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
