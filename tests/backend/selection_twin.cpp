// SPDX-License-Identifier: Apache-2.0
#include "backend/selection_twin.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "backend/quantise.h"

namespace indexshare {

std::vector<bool> twin_fixed(const FixedPattern& pattern, int64_t t) {
  std::vector<bool> marks(t + 1, false);
  for (int64_t s = 0; s <= t; ++s) marks[s] = t - s < pattern.window || s < pattern.sinks;
  int64_t kept = 0;
  for (int64_t s = t; s >= 0 && pattern.stride > 0; --s)
    if (s % pattern.stride == pattern.stride_phase % pattern.stride) {
      if (pattern.stride_cap > 0 && ++kept > pattern.stride_cap) break;
      marks[s] = true;
    }
  return marks;
}

std::optional<std::vector<int32_t>> twin_selection(const std::vector<double>& scores,
                                                   const FixedPattern& pattern, int64_t topk) {
  const auto visible = static_cast<int64_t>(scores.size());
  std::vector<bool> marks = twin_fixed(pattern, visible - 1);
  if (visible <= topk) {
    marks.assign(visible, true);
  } else if (topk > 0) {
    if (std::any_of(scores.begin(), scores.end(), [](double score) { return std::isnan(score); }))
      return std::nullopt;
    std::vector<int64_t> order;
    for (int64_t s = 0; s < visible; ++s)
      if (pattern.mode == FixedPattern::Mode::union_ || !marks[s]) order.push_back(s);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
    order.resize(std::min<int64_t>(topk, static_cast<int64_t>(order.size())));
    for (int64_t s : order) marks[s] = true;
  }
  std::vector<int32_t> chosen;
  for (int64_t s = 0; s < visible; ++s)
    if (marks[s]) chosen.push_back(static_cast<int32_t>(s));
  return chosen;
}

std::string describe(const FixedPattern& p) {
  return fmt::format("window {} sinks {} stride {} phase {} cap {} {}", p.window, p.sinks, p.stride,
                     p.stride_phase, p.stride_cap, p.mode == FixedPattern::Mode::fill ? "fill" : "union");
}

namespace {

struct Codes {
  Codes(const float* x, int64_t count) : codes(count), scale(quantise_int8(x, count, codes.data())) {}
  std::vector<int8_t> codes;
  float scale;
};

// The f32 operations that backend.h prescribes for int8 keys.
std::vector<double> int8_scores(const SelectionProblem& p, size_t row) {
  const auto [sequence, position] = p.rows[row];
  std::vector<Codes> queries;
  for (int64_t h = 0; h < p.num_heads; ++h)
    queries.emplace_back(&p.queries[(static_cast<int64_t>(row) * p.num_heads + h) * p.head_dim], p.head_dim);
  std::vector<double> result(position + 1);
  for (int64_t s = 0; s <= position; ++s) {
    const Codes key(&p.keys[sequence][s * p.head_dim], p.head_dim);
    float sum = 0, biases = 0;
    for (int64_t h = 0; h < p.num_heads; ++h) {
      const int dot = std::inner_product(key.codes.begin(), key.codes.end(), queries[h].codes.begin(), 0);
      const float weight = p.head_weights[static_cast<int64_t>(row) * p.num_heads + h] * queries[h].scale;
      sum = std::fma(weight, static_cast<float>(8388608 + std::max(dot, 0)), sum);
      biases = std::fma(weight, 8388608.0f, biases);
    }
    result[s] = key.scale * (sum - biases);
  }
  return result;
}

}  // namespace

std::vector<double> SelectionProblem::scores(size_t row) const {
  if (format == RowFormat::int8 && topk > 0) return int8_scores(*this, row);
  const auto [sequence, position] = rows[row];
  std::vector<double> result(position + 1);
  for (int64_t s = 0; s <= position && topk > 0; ++s)
    for (int64_t h = 0; h < num_heads; ++h) {
      const int64_t head = static_cast<int64_t>(row) * num_heads + h;
      double dot = 0;
      for (int64_t d = 0; d < head_dim; ++d)
        dot += double{queries[head * head_dim + d]} * rounded_to(format, keys[sequence][s * head_dim + d]);
      result[s] += head_weights[head] * (std::isnan(dot) ? dot : std::max(dot, 0.0));
    }
  return result;
}

SelectionProblem one_sequence(int64_t length, int64_t num_rows, int64_t topk) {
  SelectionProblem problem;
  problem.topk = topk;
  problem.keys.emplace_back(length * problem.head_dim);
  for (int64_t t = length - num_rows; t < length; ++t) problem.rows.push_back({0, t});
  return problem;
}

void fill_with_integers(SelectionProblem& problem, Rng& rng, int64_t largest) {
  const auto num_rows = static_cast<int64_t>(problem.rows.size());
  for (auto& keys : problem.keys) keys = rng.integers(static_cast<int64_t>(keys.size()), -largest, largest);
  problem.queries = rng.integers(num_rows * problem.num_heads * problem.head_dim, -largest, largest);
  problem.head_weights = rng.integers(num_rows * problem.num_heads, -2, 2);
}

Selected run_selection(Backend& backend, const SelectionProblem& p, const std::vector<int64_t>& order) {
  Rng rng(17);
  std::vector<int64_t> lengths;
  for (size_t s = 0; s < p.keys.size(); ++s) lengths.push_back(p.length(static_cast<int64_t>(s)));
  TestCache cache(backend, {p.format, p.page_size, p.head_dim, p.far_page}, lengths, rng);
  for (size_t s = 0; s < p.keys.size(); ++s)
    cache.write(TestCache::Kind::index_keys, static_cast<int64_t>(s), 0, p.keys[s]);

  std::vector<SequenceRows> sequences;
  std::vector<float> queries, head_weights;
  const int64_t query_size = p.num_heads * p.head_dim;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto& row = p.rows[order[i]];
    const bool continues = i > 0 && p.rows[order[i - 1]].sequence == row.sequence &&
                           p.rows[order[i - 1]].position + 1 == row.position;
    if (continues)
      ++sequences.back().row_end;
    else
      sequences.push_back(cache.rows(row.sequence, static_cast<int64_t>(i), 1, row.position));
    if (p.queries.empty()) continue;
    queries.insert(queries.end(), &p.queries[order[i] * query_size],
                   &p.queries[order[i] * query_size] + query_size);
    head_weights.insert(head_weights.end(), &p.head_weights[order[i] * p.num_heads],
                        &p.head_weights[order[i] * p.num_heads] + p.num_heads);
  }
  int64_t longest = 0;
  for (int64_t length : lengths) longest = std::max(longest, length);
  const auto num_rows = static_cast<int64_t>(order.size());
  Selected selected{selection_width(p.pattern, p.topk, longest), {}, std::vector<int32_t>(num_rows, -9)};
  selected.positions.assign(num_rows * selected.width, -9);
  backend.index_select({p.queries.empty() ? nullptr : queries.data(),
                        p.queries.empty() ? nullptr : head_weights.data(), cache.pages, sequences, num_rows,
                        p.num_heads, p.head_dim, p.topk, p.pattern, selected.width, selected.positions.data(),
                        selected.counts.data()});
  return selected;
}

Selected run_selection(Backend& backend, const SelectionProblem& problem) {
  std::vector<int64_t> all(problem.rows.size());
  std::iota(all.begin(), all.end(), 0);
  return run_selection(backend, problem, all);
}

void require_exact(const SelectionProblem& problem, const Selected& selected) {
  for (size_t r = 0; r < problem.rows.size(); ++r) {
    const auto expected = problem.expected(r);
    std::vector<int32_t> padded = expected.value_or(std::vector<int32_t>{});
    const int32_t count = expected ? static_cast<int32_t>(padded.size()) : -1;
    if (static_cast<int64_t>(padded.size()) > selected.width)
      throw std::runtime_error(
          fmt::format("row {}: {} positions expected, width {}", r, padded.size(), selected.width));
    padded.resize(selected.width, -1);
    const std::vector<int32_t> actual = selected.row(r);
    if (actual == padded && selected.counts[r] == count) continue;
    const auto [a, e] = std::mismatch(actual.begin(), actual.end(), padded.begin());
    const auto place = a - actual.begin();
    throw std::runtime_error(fmt::format(
        "row {} (sequence {}, position {}; topk {}, {}): count {} where {} is expected; from place {}: found "
        "{}, expected {}",
        r, problem.rows[r].sequence, problem.rows[r].position, problem.topk, describe(problem.pattern),
        selected.counts[r], count, place, std::vector(a, std::min(a + 8, actual.end())),
        std::vector(e, std::min(e + 8, padded.end()))));
  }
}

}  // namespace indexshare
