// SPDX-License-Identifier: Apache-2.0
// Latents read back are the rows written, rounded to the cache's format.
#include <cmath>

#include "backend/harness.h"

namespace indexshare {
namespace {

class ReadLatents : public OpTest {};
INSTANTIATE_FOR_BACKENDS(ReadLatents);

constexpr auto kLatents = TestCache::Kind::latents;

std::vector<float> read(Backend& backend, const TestCache& cache, int64_t sequence, int64_t begin,
                        int64_t end) {
  std::vector<float> rows(static_cast<size_t>((end - begin) * cache.pages.row_dim));
  const SequenceRows table = cache.rows(sequence, 0, 1, 0);
  backend.read_latents({cache.pages, table.page_table, begin, end, rows.data()});
  return rows;
}

TEST_P(ReadLatents, EveryPositionOfEverySequence) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16})
    for (int64_t row_dim : {13, 72, 576})
      for (int64_t page_size : supported_page_sizes(*backend, format, row_dim)) {
        Rng rng(row_dim);
        TestCache cache(*backend, {format, page_size, row_dim}, {70, 5}, rng);
        for (int64_t s : {0, 1}) {
          const int64_t length = s == 0 ? 70 : 5;
          std::vector<float> rows = rng.uniforms(length * row_dim, -100, 100);
          cache.write(kLatents, s, 0, rows);
          for (float& value : rows) value = rounded_to(format, value);
          ASSERT_EQ(read(*backend, cache, s, 0, length), rows) << "row " << row_dim << " page " << page_size;
          ASSERT_EQ(read(*backend, cache, s, 2, 5),
                    std::vector<float>(rows.begin() + 2 * row_dim, rows.begin() + 5 * row_dim));
        }
      }
}

// One code is a 127th of the largest of its group; the tail is bf16.
TEST_P(ReadLatents, Int8RowsKeepTheirTail) {
  const int64_t row_dim = 300, tail = 32, length = 40;
  Rng rng(3);
  TestCache cache(*backend, {RowFormat::int8, 16, row_dim, 0, tail}, {length}, rng);
  const std::vector<float> rows = rng.uniforms(length * row_dim, -4, 4);
  cache.write(kLatents, 0, 0, rows);
  const std::vector<float> back = read(*backend, cache, 0, 0, length);
  for (int64_t row = 0; row < length; ++row)
    for (int64_t i = 0; i < row_dim; ++i) {
      const float written = rows[row * row_dim + i], read = back[row * row_dim + i];
      if (i < row_dim - tail)
        ASSERT_NEAR(read, written, 4.0f / 127) << row << " " << i;
      else
        ASSERT_EQ(read, rounded_to(RowFormat::bf16, written)) << row << " " << i;
    }
}

}  // namespace
}  // namespace indexshare
