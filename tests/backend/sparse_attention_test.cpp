// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "backend/harness.h"
#include "backend/quantise.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class SparseAttention : public OpTest {};
INSTANTIATE_FOR_BACKENDS(SparseAttention);

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr RowFormat kFormats[] = {RowFormat::f32, RowFormat::bf16, RowFormat::int8};

struct Problem {
  struct Row {
    int64_t sequence, position;
    std::vector<int32_t> chosen;  // ascending positions
    bool rejected = false;        // count -1
  };
  int64_t num_heads, latent_dim, rope_dim;
  RowFormat format = RowFormat::f32;
  int64_t page_size = 16, far_page = 0;
  float scale = 0.125f;
  std::vector<std::vector<float>> cached;  // per sequence [length, latent_dim + rope_dim]
  std::vector<Row> rows;
  std::vector<float> query_latent,
      query_rope;  // [num_rows, num_heads, latent_dim], [num_rows, num_heads, rope_dim]

  int64_t bf16_tail = -1;  // of int8 rows; -1: the rope part

  int64_t row_dim() const { return latent_dim + rope_dim; }
  int64_t tail() const { return format != RowFormat::int8 ? 0 : bf16_tail < 0 ? rope_dim : bf16_tail; }
};

// Two sequences; each row chooses `count` random positions (fewer where it sees fewer).
Problem make_problem(int64_t num_heads, int64_t latent_dim, int64_t rope_dim, int64_t length, int64_t count) {
  Problem p{num_heads, latent_dim, rope_dim};
  Rng rng(length * 1000 + latent_dim + count);
  for (int64_t n : {length, length / 2 + 1}) p.cached.push_back(rng.uniforms(n * p.row_dim(), -2, 2));
  for (int64_t t : {length - 1, length - 2, length / 2, int64_t{0}})
    if (t >= 0) p.rows.push_back({0, t, {}});
  p.rows.push_back({1, length / 2, {}});
  for (auto& row : p.rows) {
    row.chosen = rng.permutation(row.position + 1);
    row.chosen.resize(std::min<int64_t>(count, row.position + 1));
    std::sort(row.chosen.begin(), row.chosen.end());
  }
  const auto num_rows = static_cast<int64_t>(p.rows.size());
  p.query_latent = rng.uniforms(num_rows * num_heads * latent_dim, -2, 2);
  p.query_rope = rng.uniforms(num_rows * num_heads * rope_dim, -2, 2);
  return p;
}

// Runs the listed rows in one call. Sparse rows get width 5 more than needed; dense ones take neighbours
// together.
std::vector<float> run(Backend& backend, const Problem& p, const std::vector<int64_t>& order,
                       bool dense = false) {
  Rng rng(3);
  std::vector<int64_t> lengths;
  for (const auto& cached : p.cached) lengths.push_back(static_cast<int64_t>(cached.size()) / p.row_dim());
  TestCache cache(backend, {p.format, p.page_size, p.row_dim(), p.far_page, p.tail()}, lengths, rng);
  for (size_t s = 0; s < p.cached.size(); ++s)
    cache.write(TestCache::Kind::latents, static_cast<int64_t>(s), 0, p.cached[s]);

  size_t longest = 0;
  for (int64_t r : order) longest = std::max(longest, p.rows[r].chosen.size());
  const auto width = static_cast<int64_t>(longest) + 5, num_rows = static_cast<int64_t>(order.size());
  const int64_t head_stride = p.rope_dim + 3, row_stride = p.num_heads * head_stride + 2;
  std::vector<int32_t> slots(num_rows * width, -1), counts(num_rows);
  std::vector<float> latent, rope(num_rows * row_stride, kNaN),
      output(num_rows * p.num_heads * p.latent_dim, 55.0f);
  std::vector<SequenceRows> sequences;
  for (int64_t i = 0; i < num_rows; ++i) {
    const auto& row = p.rows[order[i]];
    const bool continues = i > 0 && p.rows[order[i - 1]].sequence == row.sequence &&
                           p.rows[order[i - 1]].position + 1 == row.position;
    if (continues)
      ++sequences.back().row_end;
    else
      sequences.push_back(cache.rows(row.sequence, i, 1, row.position));
    counts[i] = row.rejected ? -1 : static_cast<int32_t>(row.chosen.size());
    for (int32_t n = 0; n < counts[i]; ++n)
      slots[i * width + n] = static_cast<int32_t>(cache.slot(row.sequence, row.chosen[n]));
    const int64_t latents = p.num_heads * p.latent_dim, r = order[i];
    latent.insert(latent.end(), &p.query_latent[r * latents], &p.query_latent[r * latents] + latents);
    for (int64_t h = 0; h < p.num_heads; ++h)
      std::copy_n(&p.query_rope[(r * p.num_heads + h) * p.rope_dim], p.rope_dim,
                  &rope[i * row_stride + h * head_stride]);
  }
  backend.sparse_attention({latent.data(), rope.data(), row_stride, head_stride, cache.pages, sequences,
                            dense ? nullptr : slots.data(), dense ? nullptr : counts.data(),
                            dense ? 0 : width, num_rows, p.num_heads, p.latent_dim, p.rope_dim, p.scale,
                            output.data()});
  return output;
}

std::vector<int64_t> all_rows(const Problem& p) {
  std::vector<int64_t> rows(p.rows.size());
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// Whether this backend attends over this format in bf16 tiles: then queries and dequantised codes are rounded
// to bf16, as the twin does, and softmax weights too, which the tolerance allows for.
bool uses_tiles(const Backend& backend, const Problem& p) {
  return p.format != RowFormat::f32 && backend.description().starts_with("cpu (amx");
}

double rounded(bool to_bf16, float value) {
  return rounded_to(to_bf16 ? RowFormat::bf16 : RowFormat::f32, value);
}

// One cached row as it is stored.
std::vector<float> stored_row(const Problem& p, const float* row) {
  std::vector<float> values(row, row + p.row_dim());
  const int64_t num_codes = p.format == RowFormat::int8 ? p.row_dim() - p.tail() : 0;
  std::vector<int8_t> codes(num_codes);
  for (int64_t begin = 0; begin < num_codes; begin += kLatentScaleGroup) {
    const int64_t end = std::min(begin + kLatentScaleGroup, num_codes);
    const float scale = quantise_int8(row + begin, end - begin, &codes[begin]);
    for (int64_t d = begin; d < end; ++d) values[d] = static_cast<float>(codes[d]) * scale;
  }
  for (int64_t d = num_codes; d < p.row_dim(); ++d)
    values[d] = rounded_to(p.format == RowFormat::f32 ? RowFormat::f32 : RowFormat::bf16, values[d]);
  return values;
}

struct Twin {
  std::vector<double> output;  // [latent_dim]
  double largest = 0;          // |element| of the attended latents, whose average the output is
};

// stored: [length, row_dim] of the row's sequence
Twin twin(const Problem& p, const std::vector<float>& stored, int64_t r, int64_t head, bool tiles) {
  Twin result{std::vector<double>(p.latent_dim)};
  std::vector<double> logits;
  for (int32_t s : p.rows[r].chosen) {
    const float* row = &stored[s * p.row_dim()];
    double dot = 0;
    for (int64_t d = 0; d < p.latent_dim; ++d)
      dot += rounded(tiles, p.query_latent[(r * p.num_heads + head) * p.latent_dim + d]) *
             rounded(tiles, row[d]);
    for (int64_t d = 0; d < p.rope_dim; ++d)
      dot += rounded(tiles, p.query_rope[(r * p.num_heads + head) * p.rope_dim + d]) *
             rounded(tiles, row[p.latent_dim + d]);
    logits.push_back(dot * p.scale);
  }
  if (logits.empty()) return result;
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& logit : logits) sum += logit = std::exp(logit - largest);
  for (size_t i = 0; i < logits.size(); ++i)
    for (int64_t d = 0; d < p.latent_dim; ++d) {
      const double value = rounded(tiles, stored[p.rows[r].chosen[i] * p.row_dim() + d]);
      result.output[d] += logits[i] / sum * value;
      result.largest = std::max(result.largest, std::fabs(value));
    }
  return result;
}

void expect_twin(Backend& backend, const Problem& p) {
  const std::vector<float> output = run(backend, p, all_rows(p));
  const bool tiles = uses_tiles(backend, p);
  std::vector<std::vector<float>> stored;
  for (const auto& cached : p.cached) {
    stored.emplace_back();
    for (size_t at = 0; at < cached.size(); at += p.row_dim())
      for (float value : stored_row(p, &cached[at])) stored.back().push_back(value);
  }
  for (size_t r = 0; r < p.rows.size(); ++r)
    for (int64_t h = 0; h < p.num_heads; ++h) {
      const auto row = static_cast<int64_t>(r);
      const Twin expected = twin(p, stored[p.rows[r].sequence], row, h, tiles);
      const double tolerance = tiles ? tolerance::kSparseAttentionTiles : tolerance::kSparseAttention;
      for (int64_t d = 0; d < p.latent_dim; ++d)
        ASSERT_NEAR(output[(row * p.num_heads + h) * p.latent_dim + d], expected.output[d],
                    tolerance * expected.largest)
            << row_format_name(p.format) << " row " << r << " head " << h << " of " << p.num_heads
            << ", latent " << p.latent_dim << " rope " << p.rope_dim << " tail " << p.tail() << " chosen "
            << p.rows[r].chosen.size() << " page " << p.page_size << " dim " << d;
    }
}

TEST_P(SparseAttention, EqualsTwinForEveryShapeAndFormat) {
  const int64_t dims[][2] = {{1, 2}, {5, 8}, {13, 2}, {40, 8}, {72, 16}, {64, 64}, {512, 64}};
  for (RowFormat format : kFormats)
    for (const auto& [latent_dim, rope_dim] : dims)
      for (int64_t num_heads : {1, 16, 40})
        for (int64_t page_size : supported_page_sizes(*backend, format, latent_dim + rope_dim)) {
          Problem p = make_problem(num_heads, latent_dim, rope_dim, 90, 33);
          p.format = format;
          p.page_size = page_size;
          expect_twin(*backend, p);
        }
}

TEST_P(SparseAttention, EveryCount) {
  for (int64_t count :
       {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 2048})
    for (RowFormat format : kFormats) {
      Problem p = make_problem(2, 40, 8, 2200, count);
      p.format = format;
      expect_twin(*backend, p);
    }
}

TEST_P(SparseAttention, TailOfInt8RowsNeedNotBeTheRopePart) {
  for (const auto& [latent_dim, rope_dim] : {std::pair{40, 8}, {300, 20}, {64, 64}})
    for (int64_t tail : {0, 3, 32, 48}) {
      Problem p = make_problem(3, latent_dim, rope_dim, 90, 33);
      p.format = RowFormat::int8;
      p.bf16_tail = tail;
      expect_twin(*backend, p);
    }
}

TEST_P(SparseAttention, EmptySelectionGivesZeros) {
  Problem p = make_problem(3, 13, 2, 20, 4);
  p.rows[1].chosen.clear();
  const std::vector<float> output = run(*backend, p, all_rows(p));
  EXPECT_EQ(std::vector<float>(&output[3 * 13], &output[2 * 3 * 13]), std::vector<float>(3 * 13, 0.0f));
  expect_twin(*backend, p);
}

TEST_P(SparseAttention, RejectedRowIsNaNAndSparesTheOthers) {
  Problem p = make_problem(3, 40, 8, 50, 10);
  const std::vector<float> clean = run(*backend, p, all_rows(p));
  p.rows[1].rejected = true;
  const std::vector<float> output = run(*backend, p, all_rows(p));
  const int64_t size = 3 * 40;
  for (int64_t i = 0; i < static_cast<int64_t>(output.size()); ++i) {
    if (i / size == 1)
      ASSERT_TRUE(std::isnan(output[i])) << i;
    else
      ASSERT_EQ(output[i], clean[i]) << i;
  }
}

TEST_P(SparseAttention, NaNInAQueryStaysInItsHead) {
  Problem p = make_problem(3, 40, 8, 50, 10);
  const std::vector<float> clean = run(*backend, p, all_rows(p));
  p.query_rope[(1 * 3 + 2) * 8] = kNaN;
  const std::vector<float> output = run(*backend, p, all_rows(p));
  for (int64_t i = 0; i < static_cast<int64_t>(output.size()); ++i) {
    if (i / 40 == 5)
      ASSERT_TRUE(std::isnan(output[i])) << i;
    else
      ASSERT_EQ(output[i], clean[i]) << i;
  }
}

// exp of an unshifted logit would overflow or vanish.
TEST_P(SparseAttention, LargeLogits) {
  for (float scale : {100.0f, -100.0f, 1e4f, 1e-30f, 0.0f}) {
    Problem p = make_problem(2, 16, 8, 60, 40);
    Rng rng(1);
    for (auto* values : {&p.cached[0], &p.cached[1], &p.query_latent, &p.query_rope})
      *values =
          rng.integers(static_cast<int64_t>(values->size()), -2, 2);  // exact logits: only exp is tested
    p.scale = scale;
    expect_twin(*backend, p);
  }
}

// Sums over earlier keys shrink as later logits exceed theirs, slowly or from one block of keys to the next.
TEST_P(SparseAttention, LogitsThatRiseOrFallAlongTheList) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16})
    for (float slope : {-1.0f, -0.015625f, 0.00390625f, 0.015625f, 0.0625f, 0.25f, 8.0f})
      for (int64_t num_heads : {3, 40}) {
        Problem p = make_problem(num_heads, 40, 8, 1500, 1400);
        p.format = format;
        p.scale = 1;
        Rng rng(1);
        for (auto* values : {&p.cached[0], &p.cached[1], &p.query_latent, &p.query_rope})
          *values = rng.integers(static_cast<int64_t>(values->size()), -2, 2);  // exact logits
        for (auto& cached : p.cached)
          for (size_t at = 0; at < cached.size(); at += 48)
            cached[at + 40] = slope * static_cast<float>(at / 48);
        for (size_t at = 0; at < p.query_rope.size(); at += 8) p.query_rope[at] = 1;
        expect_twin(*backend, p);
      }
}

TEST_P(SparseAttention, UnselectedRowsAreNotRead) {
  Problem p = make_problem(2, 40, 8, 50, 10);
  p.rows.resize(1);
  const std::vector<float> clean = run(*backend, p, {0});
  std::vector<bool> chosen(50, false);
  for (int32_t s : p.rows[0].chosen) chosen[s] = true;
  for (int64_t s = 0; s < 50; ++s)
    if (!chosen[s]) std::fill_n(&p.cached[0][s * 48], 48, kNaN);
  EXPECT_EQ(run(*backend, p, {0}), clean);
}

// Rows 0 .. n-1 of one sequence in one call, each choosing everything it sees.
Problem choose_everything(int64_t length, RowFormat format, int64_t latent_dim = 40) {
  Problem p = make_problem(3, latent_dim, 8, length, 1);
  p.format = format;
  p.rows.clear();
  for (int64_t t = 0; t < length; t += t < 5 || t + 5 > length ? 1 : 3) {
    p.rows.push_back({0, t, std::vector<int32_t>(t + 1)});
    std::iota(p.rows.back().chosen.begin(), p.rows.back().chosen.end(), 0);
  }
  Rng rng(length);
  p.query_latent = rng.uniforms(static_cast<int64_t>(p.rows.size()) * 3 * latent_dim, -2, 2);
  p.query_rope = rng.uniforms(static_cast<int64_t>(p.rows.size()) * 3 * 8, -2, 2);
  return p;
}

TEST_P(SparseAttention, SelectionOfEverythingEqualsDenseBitForBit) {
  for (RowFormat format : kFormats)
    for (int64_t length : {1, 2, 17, 64, 130, 700}) {
      const Problem p = choose_everything(length, format);
      const std::vector<float> sparse = run(*backend, p, all_rows(p)),
                               dense = run(*backend, p, all_rows(p), true);
      ASSERT_EQ(bits_of(sparse.data(), static_cast<int64_t>(sparse.size())),
                bits_of(dense.data(), static_cast<int64_t>(dense.size())))
          << "length " << length;
      expect_twin(*backend, p);
    }
}

TEST_P(SparseAttention, SlotsBeyondTwoToThe31Elements) {
  for (RowFormat format : kFormats) {
    Problem p = make_problem(2, 64, 64, 100, 30);
    p.format = format;
    p.page_size = 64;
    p.far_page = TestCache::kFarPage;
    expect_twin(*backend, p);
  }
}

TEST_P(SparseAttention, NoRows) { EXPECT_TRUE(run(*backend, make_problem(2, 40, 8, 30, 5), {}).empty()); }

TEST_P(SparseAttention, BatchInvariant) {
  for (RowFormat format : kFormats)
    for (bool dense : {false, true}) {
      SCOPED_TRACE(testing::Message() << row_format_name(format) << " dense " << dense);
      Problem p = choose_everything(70, format);
      if (!dense) {
        for (auto& row : p.rows)
          if (row.chosen.size() % 2) row.chosen.resize(row.chosen.size() / 2);
      }
      const int64_t size = p.num_heads * p.latent_dim;
      expect_batch_invariant(GetParam(), static_cast<int64_t>(p.rows.size()),
                             [&](Backend& each, const std::vector<int64_t>& order) {
                               const std::vector<float> output = run(each, p, order, dense);
                               std::vector<std::vector<uint32_t>> results;
                               for (size_t i = 0; i < order.size(); ++i)
                                 results.push_back(bits_of(&output[i * size], size));
                               return results;
                             });
    }
}

// 2048 chosen of 4000: enough work for a backend to split one row among its threads.
TEST_P(SparseAttention, LongRowsAreBatchInvariant) {
  for (RowFormat format : kFormats) {
    SCOPED_TRACE(row_format_name(format));
    Problem p = make_problem(4, 128, 64, 4000, 2048);
    p.format = format;
    const int64_t size = p.num_heads * p.latent_dim;
    expect_batch_invariant(GetParam(), static_cast<int64_t>(p.rows.size()),
                           [&](Backend& each, const std::vector<int64_t>& order) {
                             const std::vector<float> output = run(each, p, order);
                             std::vector<std::vector<uint32_t>> results;
                             for (size_t i = 0; i < order.size(); ++i)
                               results.push_back(bits_of(&output[i * size], size));
                             return results;
                           });
  }
}

}  // namespace
}  // namespace indexshare
