// SPDX-License-Identifier: Apache-2.0
// Drafting. The MTP layer reads on behind every forward pass of the target, as its first draft pass; those
// who decode then get a round of drafts, which their next forward pass verifies. Its row t stands at position
// t and is made of the target's hidden state there and the token at t + 1; the last row waits until that is
// known.
#include <algorithm>

#include "base/check.h"
#include "engine/engine_state.h"

namespace indexshare {

double DraftStatistics::accepted_length() const {
  uint64_t sum = 0;
  for (uint64_t count : accepted) sum += count;
  return rounds == 0 ? 1 : 1 + static_cast<double>(sum) / static_cast<double>(rounds);
}

namespace {

void count(DraftStatistics& statistics, size_t proposed, size_t accepted) {
  ++statistics.rounds;
  for (size_t i = 0; i < proposed; ++i) ++statistics.proposed[i];
  for (size_t i = 0; i < accepted; ++i) ++statistics.accepted[i];
}

// A row that goes on from the row at `anchor`, `step` - 1 positions behind it.
void add_draft_row(Batch& batch, const Sequence& sequence, int32_t token, int64_t anchor, int64_t step) {
  const int64_t row = batch.num_rows();
  batch.leaves_keys = false;
  batch.tokens.push_back(token);
  batch.positions.push_back(anchor + step - 1);
  batch.sequences.push_back({.row_begin = row,
                             .row_end = row + 1,
                             .first_position = anchor,
                             .page_table = sequence.cache.pages.data()});
}

}  // namespace

int64_t Engine::State::continuable(const Sequence& sequence, int64_t length) const {
  if (!drafting() || length == 0) return length;
  const MtpHistory& mtp = sequence.mtp;
  const bool whole = length == std::ssize(sequence.tokens) && !mtp.hidden.empty();
  if (whole && mtp.num_rows == length - 1) return length;
  return std::min(mtp.num_rows, length - 1);  // row t knows the token at t + 1, which must be common, too
}

void Engine::State::count_drafts(ActiveRequest& active, size_t accepted) {
  count(drafts, active.drafts.size(), accepted);
  count(active.completion.drafts, active.drafts.size(), accepted);
}

void Engine::State::draft_behind(const std::vector<ScheduledRows>& pass, const Batch& batch,
                                 std::span<const SequenceId> owners) {
  std::vector<MtpReading> readings;
  for (size_t i = 0; i < pass.size(); ++i) {
    const auto sequence = sequences.find(owners[i]);
    if (sequence == sequences.end()) continue;  // it ended with its request
    const SequenceRows& rows = batch.sequences[i];
    MtpReading reading{
        .sequence = owners[i], .first_row = rows.row_begin, .first_position = rows.first_position};
    if (sequence->second.request == pass[i].request) {
      ActiveRequest& active = requests.at(pass[i].request);
      const int64_t length = std::ssize(sequence->second.tokens);
      reading.next = active.pending ? *active.pending : active.request.tokens[length];
      // Every draft may become a token and a position of its own.
      const int64_t num_drafts = std::min(options.draft_tokens, active.final_length - length - 1);
      if (active.pending && num_drafts > 0) {
        reading.drafter = &active;
        reading.num_drafts = num_drafts;
      }
    }
    readings.push_back(reading);
  }
  // Whoever drafts on longest comes first, so that later passes run over a prefix of the rows.
  std::ranges::stable_sort(readings, std::greater<>(), &MtpReading::num_drafts);
  const MtpPass mtp = read_by_mtp(readings);
  std::vector<MtpReading> drafters;
  std::vector<int64_t> last_rows;
  for (size_t i = 0; i < readings.size(); ++i) {
    if (!readings[i].drafter || mtp.last_rows[i] < 0) continue;
    drafters.push_back(readings[i]);
    last_rows.push_back(mtp.last_rows[i]);
  }
  if (!drafters.empty()) draft_round(drafters, last_rows);
}

// The first draft pass, over all rows that the last forward pass made ready.
MtpPass Engine::State::read_by_mtp(std::span<const MtpReading> readings) {
  MtpPass pass;
  for (const MtpReading& reading : readings)
    pass.last_rows.push_back(add_mtp_rows(pass, reading) ? pass.batch.num_rows() - 1 : -1);
  if (pass.batch.num_rows() > 0) model->draft_first(pass.batch, pass.hidden.data(), *cache);
  return pass;
}

// @return false where there was nothing to add
bool Engine::State::add_mtp_rows(MtpPass& pass, const MtpReading& reading) {
  Sequence& sequence = sequences.at(reading.sequence);
  MtpHistory& mtp = sequence.mtp;
  const int64_t length = std::ssize(sequence.tokens), first = reading.first_position;
  if (length <= first) return false;  // all of it was taken back
  const auto dim = static_cast<size_t>(model->config().hidden_dim);
  const int64_t begin = mtp.num_rows, end = reading.next ? length : length - 1;
  const bool waiting = begin == first - 1 && !mtp.hidden.empty();
  if (begin < first && !waiting) {  // rows are missing; continuable() goes back to them
    mtp.hidden.clear();
    return false;
  }
  if (waiting) pass.hidden.insert(pass.hidden.end(), mtp.hidden.begin(), mtp.hidden.end());
  const int64_t from = std::max(begin, first), num_fresh = std::max<int64_t>(end - from, 0);
  const size_t at = pass.hidden.size();
  pass.hidden.resize(at + static_cast<size_t>(num_fresh) * dim);
  if (num_fresh > 0)
    model->final_hidden(reading.first_row + from - first, num_fresh, pass.hidden.data() + at);
  mtp.hidden.resize(reading.next ? 0 : dim);
  if (!reading.next) model->final_hidden(reading.first_row + length - 1 - first, 1, mtp.hidden.data());
  mtp.num_rows = end;
  if (begin == end) return false;

  const int64_t row = pass.batch.num_rows();
  for (int64_t t = begin; t < end; ++t) {
    pass.batch.tokens.push_back(t + 1 < length ? sequence.tokens[t + 1] : *reading.next);
    pass.batch.positions.push_back(t);
  }
  pass.batch.sequences.push_back({.row_begin = row,
                                  .row_end = pass.batch.num_rows(),
                                  .first_position = begin,
                                  .page_table = sequence.cache.pages.data()});
  return true;
}

// Every pass drafts one token for everyone who still wants one. What a draft's penalties knew of the drafts
// before it is forgotten at the end: the target has yet to judge them.
void Engine::State::draft_round(std::span<const MtpReading> drafters, std::span<const int64_t> last_rows) {
  const auto vocab = static_cast<size_t>(info.vocab_size);
  std::span<const float> logits = model->begin_drafts(last_rows);
  const auto selection = info.draft_index_share ? DraftSelection::shared : DraftSelection::own;
  for (int64_t step = 1;; ++step) {
    for (size_t i = 0; i < logits.size() / vocab; ++i) {
      ActiveRequest& active = *drafters[i].drafter;
      if (std::ssize(active.drafts) != step - 1) continue;  // its logits were not finite once
      if (auto draft = active.sampler.draft(logits.subspan(i * vocab, vocab)))
        active.drafts.push_back(std::move(*draft));
    }
    Batch batch;
    for (const MtpReading& reading : drafters) {
      if (reading.num_drafts == step) break;
      const auto& drafted = reading.drafter->drafts;
      const Sequence& sequence = *reading.drafter->sequence;
      add_draft_row(batch, sequence, drafted.empty() ? 0 : drafted.back().token,
                    std::ssize(sequence.tokens) - 1, step + 1);
    }
    if (batch.num_rows() == 0) break;
    logits = model->draft_later(batch, *cache, selection);
  }
  for (const MtpReading& reading : drafters) reading.drafter->sampler.forget(reading.drafter->drafts);
}

void Engine::State::emit_drafts(const Sequence& sequence, const Batch& batch, std::span<const int32_t> text,
                                const DraftSink& sink) {
  if (batch.num_rows() == 0) return;
  const auto vocab = static_cast<size_t>(info.vocab_size);
  const auto selection = info.draft_index_share ? DraftSelection::shared : DraftSelection::own;
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < batch.num_rows(); ++row) rows.push_back(row);
  std::span<const float> logits = model->begin_drafts(rows);
  for (int64_t step = 1;; ++step) {
    for (size_t i = 0; i < logits.size() / vocab; ++i)
      sink(batch.positions[i], step, logits.subspan(i * vocab, vocab));
    if (step == options.draft_tokens) break;
    Batch later;
    for (int64_t position : batch.positions)
      if (position + step + 1 < std::ssize(text))
        add_draft_row(later, sequence, text[position + step + 1], position, step + 1);
    if (later.num_rows() == 0) break;
    logits = model->draft_later(later, *cache, selection);
  }
}

}  // namespace indexshare
