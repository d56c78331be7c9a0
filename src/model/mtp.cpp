// SPDX-License-Identifier: Apache-2.0
// Multi-token prediction: one more layer that drafts the tokens behind the next (DeepSeek-V3, GLM-5).
//   x_t = W_join [norm(embed(token_{t+1})) ; norm(h_t)],  y_t = norm(layer(x_t)),  logits of token t+2 = head
//   y_t
// h_t is the target's hidden state after its final norm, and the embedding at position 0 counts as zero.
// Later passes of a round take y in place of h and the token just drafted; they attend with the selection of
// the row that the round began with, over what that row saw, and leave neither latents nor index keys.
#include <algorithm>

#include "base/check.h"
#include "model/model.h"

namespace indexshare {

namespace {

// Counts the work of its life as drafting.
class Drafting {
 public:
  Drafting(ForwardCounters*& counters, ForwardCounters& drafting) : counters_(counters), before_(counters) {
    counters_ = &drafting;
  }
  ~Drafting() { counters_ = before_; }
  Drafting(const Drafting&) = delete;
  Drafting& operator=(const Drafting&) = delete;

 private:
  ForwardCounters*& counters_;
  ForwardCounters* before_;
};

}  // namespace

void Model::draft_first(const Batch& batch, const float* hidden, PagedCache& cache) {
  const Drafting drafting(counters_, draft_counters_);
  const Timed timed(counters_->seconds.forward);
  const int64_t rows = batch.num_rows(), hidden_dim = config_.hidden_dim;
  ENSURE(has_mtp() && rows > 0 && rows <= limits_.max_draft_rows, "{} rows for an MTP layer, at most {}",
         rows, limits_.max_draft_rows);
  ++step_;
  invalid_rows_.clear();
  backend_.copy(workspace_.draft_hidden, hidden, sizeof(float) * static_cast<size_t>(rows * hidden_dim));
  join(batch);
  run_layer(mtp_layer(), batch, cache, draft_selection_);
  counters_->tokens += rows;
  ++counters_->forward_passes;
}

std::span<const float> Model::begin_drafts(std::span<const int64_t> rows) {
  const Drafting drafting(counters_, draft_counters_);
  if (selects()) {
    draft_selection_.expect(mtp_layer(), step_);
    for (size_t i = 0; i < rows.size(); ++i)
      round_selection_.adopt(backend_, draft_selection_, rows[i], static_cast<int64_t>(i));
    // Later passes belong to this step: once any other pass has run, they find their selection stale.
    round_selection_.stamp(mtp_layer(), step_);
  }
  return finish_drafts(rows);
}

std::span<const float> Model::draft_later(const Batch& batch, PagedCache& cache, DraftSelection selection) {
  const Drafting drafting(counters_, draft_counters_);
  const int64_t rows = batch.num_rows();
  ENSURE(!batch.leaves_keys && rows <= workspace_.max_logits_rows, "{} rows of a later draft pass", rows);
  {
    const Timed timed(counters_->seconds.forward);
    join(batch);
    if (selects()) {
      round_selection_.expect(mtp_layer(), step_);
      if (selection == DraftSelection::own) round_selection_.stamp(-1, 0);  // to be found anew
    }
    run_layer(mtp_layer(), batch, cache, round_selection_);
  }
  counters_->tokens += rows;
  ++counters_->forward_passes;
  std::vector<int64_t> all(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) all[row] = row;
  return finish_drafts(all);
}

// From draft_hidden and the batch's tokens to the residual stream.
void Model::join(const Batch& batch) {
  const Timed timed(counters_->seconds.projections);
  const MtpWeights& w = *weights_.mtp;
  const int64_t rows = batch.num_rows(), hidden = config_.hidden_dim;
  Workspace& ws = workspace_;
  backend_.embed(
      {.tokens = batch.tokens.data(), .table = weights_.embedding.get(), .y = ws.residual, .num_rows = rows});
  for (int64_t row = 0; row < rows; ++row)
    if (batch.positions[row] == 0) std::fill_n(ws.residual + row * hidden, hidden, 0.f);
  norm(ws.residual, w.embedding_norm, ws.joined, 2 * hidden, rows);
  norm(ws.draft_hidden, w.hidden_norm, ws.joined + hidden, 2 * hidden, rows);
  linear(ws.joined, *w.join, ws.residual, rows, counters_->projections);
}

// Logits of `rows`, whose hidden states become the next pass's input.
std::span<const float> Model::finish_drafts(std::span<const int64_t> rows) {
  const Timed timed(counters_->seconds.head);
  const int64_t n = std::ssize(rows), hidden = config_.hidden_dim;
  ENSURE(n <= workspace_.max_logits_rows, "draft logits of {} rows, at most {}", n,
         workspace_.max_logits_rows);
  Workspace& ws = workspace_;
  const size_t row_bytes = sizeof(float) * static_cast<size_t>(hidden);
  for (int64_t i = 0; i < n; ++i) {
    const float* residual = ws.residual + rows[i] * hidden;
    float* output = ws.final_hidden + i * hidden;
    norm(residual, weights_.mtp->output_norm, output, hidden, 1);
    const bool normed = config_.draft_hidden == DraftHidden::normed;
    backend_.copy(ws.draft_hidden + i * hidden, normed ? output : residual, row_bytes);
  }
  linear(ws.final_hidden, *weights_.head, ws.logits, n, counters_->head);
  return {ws.logits, static_cast<size_t>(n * config_.vocab_size)};
}

}  // namespace indexshare
