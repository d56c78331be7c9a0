// SPDX-License-Identifier: Apache-2.0
// Sequences by hand: create, fork, truncate, evaluate; and what requests share with that: running a batch.
#include <algorithm>
#include <cmath>
#include <random>

#include "base/check.h"
#include "engine/engine_state.h"
#include "engine/memory.h"

namespace indexshare {

Sequence& Engine::State::find_sequence(SequenceId id) {
  const auto it = sequences.find(id);
  if (it == sequences.end())
    fail(ErrorCode::invalid_argument, "sequence {}: there is none of this number", id);
  return it->second;
}

Sequence& Engine::State::idle_sequence(SequenceId id) {
  Sequence& sequence = find_sequence(id);
  if (sequence.request != 0)
    fail(ErrorCode::invalid_argument, "sequence {}: request {} is running on it", id, sequence.request);
  return sequence;
}

Sequence& Engine::State::new_sequence() {
  const SequenceId id = ++last_sequence_id;
  return sequences[id] = Sequence{.id = id};
}

void Engine::State::drop_sequence(SequenceId id) {
  truncate(find_sequence(id), 0);
  sequences.erase(id);
}

void Engine::State::truncate(Sequence& sequence, int64_t length) {
  cache->truncate(sequence.cache, length);
  if (length == 0) sequence.lacks_keys.clear();
  if (length == std::ssize(sequence.tokens)) return;
  sequence.tokens.resize(static_cast<size_t>(length));
  // The MTP layer's last row was made with a token that is gone, and the hidden state to make it anew with is
  // not kept.
  sequence.mtp.num_rows = std::min(sequence.mtp.num_rows, std::max<int64_t>(length - 1, 0));
  sequence.mtp.hidden.clear();
}

void Engine::State::check_tokens(std::span<const int32_t> tokens) const {
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= info.vocab_size)
      fail(ErrorCode::invalid_argument, "token {} at position {}: expected an id from 0 to {}", tokens[i], i,
           info.vocab_size - 1);
}

void Engine::State::check_fits(const Sequence& sequence, int64_t final_length) const {
  if (final_length > info.max_positions)
    fail(ErrorCode::invalid_argument, "{} positions are wanted, the model has {} (max_position_embeddings)",
         final_length, info.max_positions);
  if (final_length > info.ctx_size)
    fail(ErrorCode::out_of_memory, "{} positions are wanted, the cache holds {} (--ctx-size)", final_length,
         info.ctx_size);
  const size_t per_token = info.latent_bytes_per_token + info.index_key_bytes_per_token;
  // Pages used before are this process's already; only those beyond them need memory.
  const int64_t new_pages =
      cache->pages_to_grow(sequence.cache, final_length) - cache->num_free_resident_pages();
  const size_t needed =
      per_token * static_cast<size_t>(std::max<int64_t>(new_pages, 0) * cache->config().page_size);
  const size_t available = available_memory_bytes();
  if (needed > available)
    fail(ErrorCode::out_of_memory,
         "the cache of {} positions needs {} MiB ({} bytes each), {} MiB of memory are available",
         final_length, needed >> 20, per_token, available >> 20);
}

void Engine::State::append_rows(Batch& batch, Sequence& sequence, std::span<const int32_t> tokens) {
  const int64_t begin = batch.num_rows(), first = sequence.cache.length;
  cache->grow(sequence.cache, first + std::ssize(tokens));
  batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end());
  for (int64_t i = 0; i < std::ssize(tokens); ++i) batch.positions.push_back(first + i);
  batch.sequences.push_back({.row_begin = begin, .row_end = batch.num_rows(), .first_position = first});
}

void Engine::State::run(Batch& batch, std::span<Sequence* const> owners) {
  for (size_t i = 0; i < owners.size(); ++i) batch.sequences[i].page_table = owners[i]->cache.pages.data();
  try {
    model->forward(batch, *cache);
  } catch (...) {
    roll_back(owners);
    throw;
  }
  for (size_t i = 0; i < owners.size(); ++i) {
    const SequenceRows& rows = batch.sequences[i];
    owners[i]->tokens.insert(owners[i]->tokens.end(), batch.tokens.begin() + rows.row_begin,
                             batch.tokens.begin() + rows.row_end);
  }
}

void Engine::State::roll_back(std::span<Sequence* const> owners) {
  for (Sequence* sequence : owners) cache->truncate(sequence->cache, std::ssize(sequence->tokens));
}

SequenceId Engine::create_sequence() { return state_->new_sequence().id; }

SequenceId Engine::fork(SequenceId id) {
  const Sequence& parent = state_->idle_sequence(id);
  Sequence& child = state_->new_sequence();
  child.tokens = parent.tokens;
  child.cache = state_->cache->fork(parent.cache);
  child.mtp = parent.mtp;
  child.lacks_keys = parent.lacks_keys;
  return child.id;
}

void Engine::truncate(SequenceId id, int64_t length) {
  Sequence& sequence = state_->idle_sequence(id);
  if (length < 0 || length > sequence.cache.length)
    fail(ErrorCode::invalid_argument, "truncate: expected a length from 0 to {}, found {}",
         sequence.cache.length, length);
  state_->truncate(sequence, length);
}

void Engine::release(SequenceId id) { state_->drop_sequence(state_->idle_sequence(id).id); }

int64_t Engine::length(SequenceId id) const { return state_->find_sequence(id).cache.length; }

std::vector<int32_t> Engine::tokens(SequenceId id) const { return state_->find_sequence(id).tokens; }

namespace {

// Hands the wanted logits of the last batch to the sink, a block of rows at a time.
void emit_logits(Model& model, const Batch& batch, int64_t first_wanted_row, int64_t max_rows,
                 const LogitsSink& sink) {
  const int64_t vocab = model.config().vocab_size;
  std::vector<int64_t> rows;
  for (int64_t begin = first_wanted_row; begin < batch.num_rows(); begin += max_rows) {
    rows.clear();
    for (int64_t row = begin; row < std::min(begin + max_rows, batch.num_rows()); ++row) rows.push_back(row);
    const std::span<const float> logits = model.logits(rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto row_logits = logits.subspan(i * static_cast<size_t>(vocab), static_cast<size_t>(vocab));
      if (!std::all_of(row_logits.begin(), row_logits.end(), [](float x) { return std::isfinite(x); }))
        fail(ErrorCode::numerical, "the logits at position {} are not finite", batch.positions[rows[i]]);
      sink(batch.positions[rows[i]], row_logits);
    }
  }
}

// Has the wanted positions among the batch's rows shown.
void probe(const EvaluateOptions& options, Batch& batch) {
  batch.attention_probe = options.attention_probe;
  for (const int64_t position : options.probe_positions) {
    const int64_t row = position - batch.positions.front();
    if (row >= 0 && row < batch.num_rows()) batch.probe_rows.push_back(row);
  }
}

}  // namespace

void Engine::evaluate(SequenceId id, std::span<const int32_t> tokens, const EvaluateOptions& options) {
  State& s = *state_;
  Sequence& sequence = s.idle_sequence(id);
  s.check_tokens(tokens);
  if (options.draft_sink && !s.drafting())
    fail(ErrorCode::invalid_argument, "draft_sink: needs an engine with draft_tokens, this one has none");
  s.check_fits(sequence, sequence.cache.length + std::ssize(tokens));
  const int64_t total = std::ssize(tokens), start = sequence.cache.length;
  const SharePlan plan = s.plan_of(options);
  if (!options.dense) s.check_keys(sequence, plan);
  const std::vector<bool> lacked_keys = sequence.lacks_keys;
  if (total > 0) s.note_missing_keys(sequence, plan, options.dense);
  Sequence* const owners[] = {&sequence};
  // The sink wants the draft logits of every row of a chunk at once.
  const int64_t chunk =
      options.draft_sink ? std::min(s.options.chunk_size, s.scheduler->max_running()) : s.options.chunk_size;
  std::vector<int32_t> text = sequence.tokens;
  if (options.draft_sink) text.insert(text.end(), tokens.begin(), tokens.end());
  try {
    for (int64_t done = 0; done < total;) {
      const int64_t rows = std::min(chunk, total - done);
      Batch batch;
      batch.selection_hook = options.selection_hook;
      s.append_rows(batch, sequence, tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(rows)));
      batch.plan = &plan;
      batch.dense = options.dense;
      if (options.attention_probe) probe(options, batch);
      s.run(batch, owners);
      if (!s.model->invalid_rows().empty())
        fail(ErrorCode::numerical, "the index scores at position {} are NaN",
             batch.positions[s.model->invalid_rows().front()]);
      done += rows;
      const int64_t first_wanted = options.all_rows ? 0 : (done == total ? rows - 1 : rows);
      if (options.sink) emit_logits(*s.model, batch, first_wanted, s.scheduler->max_running(), options.sink);
      if (s.drafting()) {
        MtpReading reading{.sequence = id, .first_position = batch.positions.front()};
        if (done < total) reading.next = tokens[done];
        const MtpPass pass = s.read_by_mtp({&reading, 1});
        if (options.draft_sink) s.emit_drafts(sequence, pass.batch, text, options.draft_sink);
      }
      if (options.progress) options.progress(done, total);
    }
  } catch (...) {
    s.roll_back(owners);  // rows that were appended but not run
    s.truncate(sequence, start);
    sequence.lacks_keys = lacked_keys;
    throw;
  }
}

void Engine::fill_random(SequenceId id, int64_t length, uint64_t seed) {
  State& s = *state_;
  Sequence& sequence = s.idle_sequence(id);
  s.check_fits(sequence, length);
  const CacheConfig& c = s.cache->config();
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(
      static_cast<size_t>(s.options.chunk_size * std::max(c.latent_row_dim, c.index_key_dim)));
  while (sequence.cache.length < length) {
    const int64_t first = sequence.cache.length, count = std::min(s.options.chunk_size, length - first);
    s.cache->grow(sequence.cache, first + count);
    sequence.tokens.resize(static_cast<size_t>(first + count), -1);  // no prompt has these in common
    const SequenceRows span{
        .row_begin = 0, .row_end = count, .first_position = first, .page_table = sequence.cache.pages.data()};
    const auto write = [&](const CachePages& pages, bool keys) {
      for (int64_t i = 0; i < count * pages.row_dim; ++i) rows[i] = normal(random);
      const WriteCacheArgs args{
          .x = rows.data(), .x_stride = pages.row_dim, .cache = pages, .sequences = {&span, 1}};
      keys ? s.backend->write_index_keys(args) : s.backend->write_latents(args);
    };
    for (int layer = 0; layer < c.num_layers; ++layer) write(s.cache->latents(layer), false);
    for (int slot = 0; slot < c.num_index_slots; ++slot) write(s.cache->index_keys(slot), true);
  }
}

}  // namespace indexshare
