// SPDX-License-Identifier: Apache-2.0
// A page's layout is the backend's own, so latents are read back through attention over one position, whose
// softmax weight is exactly 1, and index keys through selections of one.
#include "backend/harness.h"
#include "backend/quantise.h"

namespace indexshare {
namespace {

class WriteCache : public OpTest {};
INSTANTIATE_FOR_BACKENDS(WriteCache);

constexpr auto kLatents = TestCache::Kind::latents;
constexpr auto kIndexKeys = TestCache::Kind::index_keys;

// The stored latent of one position; rope_dim trailing elements of the row are not part of it.
std::vector<float> read_latent(Backend& backend, const TestCache& cache, int64_t sequence, int64_t position,
                               int64_t rope_dim) {
  const int64_t latent_dim = cache.pages.row_dim - rope_dim;
  const std::vector<float> query(latent_dim), rope(rope_dim);
  std::vector<float> output(latent_dim);
  const auto slot = static_cast<int32_t>(cache.slot(sequence, position));
  const int32_t count = 1;
  const SequenceRows sequences[] = {cache.rows(sequence, 0, 1, position)};
  backend.sparse_attention({query.data(), rope.data(), rope_dim, rope_dim, cache.pages, sequences, &slot,
                            &count, 1, 1, 1, latent_dim, rope_dim, 1.0f, output.data()});
  return output;
}

// The first `count` elements of a row as they come back; of int8 rows, which are codes so far. Attention in
// tiles rounds what it reads to bf16.
std::vector<float> stored(const Backend& backend, RowFormat format, const std::vector<float>& rows,
                          int64_t row, int64_t row_dim, int64_t count) {
  std::vector<float> values(&rows[row * row_dim], &rows[row * row_dim] + count);
  const bool tiles = format != RowFormat::f32 && backend.description().starts_with("cpu (amx");
  std::vector<int8_t> codes(count);
  for (int64_t begin = 0; format == RowFormat::int8 && begin < count; begin += kLatentScaleGroup) {
    const int64_t end = std::min(begin + kLatentScaleGroup, count);
    const float scale = quantise_int8(&values[begin], end - begin, &codes[begin]);
    for (int64_t d = begin; d < end; ++d) values[d] = static_cast<float>(codes[d]) * scale;
  }
  for (float& value : values)
    if (format == RowFormat::bf16 || tiles) value = bf16_to_f32(f32_to_bf16(value));
  return values;
}

TEST_P(WriteCache, LatentsComeBackFromEveryPosition) {
  const int64_t rope_dim = 8;
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    for (int64_t row_dim : {13, 40, 72, 300, 576})
      for (int64_t page_size : supported_page_sizes(*backend, format, row_dim)) {
        SCOPED_TRACE(testing::Message()
                     << row_format_name(format) << " row " << row_dim << " page " << page_size);
        Rng rng(row_dim);
        const int64_t tail = format == RowFormat::int8 ? rope_dim : 0;
        TestCache cache(*backend, {format, page_size, row_dim, 0, tail}, {70, 5, 64}, rng);
        std::vector<std::vector<float>> rows;
        for (int64_t length : {70, 5, 64}) rows.push_back(rng.uniforms(length * row_dim, -100, 100));
        for (int64_t s : {2, 0, 1}) cache.write(kLatents, s, 0, rows[s]);
        for (int64_t s = 0; s < 3; ++s)
          for (int64_t p = 0; p * row_dim < static_cast<int64_t>(rows[s].size()); ++p)
            ASSERT_EQ(read_latent(*backend, cache, s, p, rope_dim),
                      stored(*backend, format, rows[s], p, row_dim, row_dim - rope_dim))
                << "sequence " << s << " position " << p;
      }
}

TEST_P(WriteCache, SeveralSequencesInOneCallWithStride) {
  Rng rng(1);
  const int64_t row_dim = 40, stride = 45;
  TestCache cache(*backend, {RowFormat::bf16, 16, row_dim}, {40, 40}, rng);
  const std::vector<float> old = rng.uniforms(40 * row_dim), x = rng.uniforms(7 * stride);
  cache.write(kLatents, 0, 0, old);
  cache.write(kLatents, 1, 0, old);
  const SequenceRows sequences[] = {cache.rows(1, 0, 3, 15), cache.rows(0, 3, 4, 30)};
  backend->write_latents({x.data(), stride, cache.pages, sequences});
  backend->write_latents({nullptr, stride, cache.pages, {}});
  for (int64_t s = 0; s < 2; ++s)
    for (int64_t p = 0; p < 40; ++p) {
      const int64_t row = s == 1 ? p - 15 : p - 30 + 3;
      const bool overwritten = s == 1 ? p >= 15 && p < 18 : p >= 30 && p < 34;
      ASSERT_EQ(read_latent(*backend, cache, s, p, 8),
                overwritten ? stored(*backend, RowFormat::bf16, x, row, stride, 32)
                            : stored(*backend, RowFormat::bf16, old, p, row_dim, 32))
          << "sequence " << s << " position " << p;
    }
}

// (Not below 2^-126, which attention in tiles reads as zero.)
TEST_P(WriteCache, RoundsToNearestEven) {
  const std::vector<float> x{1.00390625f, 1.01171875f, -1.00390625f, 1.00390637f,
                             3.38e38f,    -3.38e38f,   1.2e-38f,     -0.0f};
  Rng rng(1);
  TestCache cache(*backend, {RowFormat::bf16, 16, 8}, {1}, rng);
  cache.write(kLatents, 0, 0, x);
  const std::vector<float> expected{1.0f,
                                    1.015625f,
                                    -1.0f,
                                    1.0078125f,
                                    bf16_to_f32(0x7f7e),
                                    bf16_to_f32(0xff7e),
                                    bf16_to_f32(f32_to_bf16(1.2e-38f)),
                                    0.0f};
  EXPECT_EQ(read_latent(*backend, cache, 0, 0, 0), expected);
}

// Only position p has a key along axis p, so a query along that axis must select p.
TEST_P(WriteCache, IndexKeysComeBackFromEveryPosition) {
  const int64_t length = 70, dim = 72;
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    for (int64_t page_size : supported_page_sizes(*backend, format, dim)) {
      SCOPED_TRACE(row_format_name(format) + " page " + std::to_string(page_size));
      Rng rng(page_size);
      TestCache cache(*backend, {format, page_size, dim}, {length, length}, rng);
      std::vector<float> keys(length * dim);
      for (int64_t p = 0; p < length; ++p) keys[p * dim + p] = 1;
      cache.write(kIndexKeys, 1, 0,
                  std::vector<float>(length * dim, 3.0f));  // must not be mistaken for these
      cache.write(kIndexKeys, 0, 0, {keys.begin(), keys.begin() + 33 * dim});
      cache.write(kIndexKeys, 0, 33, {keys.begin() + 33 * dim, keys.end()});
      const SequenceRows sequences[] = {cache.rows(0, 0, 1, length - 1)};
      for (int64_t p = 0; p < length; ++p) {
        std::vector<float> query(dim);
        query[p] = 1;
        const float head_weight = 1;
        int32_t position = -9, count = -9;
        backend->index_select(
            {query.data(), &head_weight, cache.pages, sequences, 1, 1, dim, 1, {}, 1, &position, &count});
        ASSERT_EQ(count, 1);
        ASSERT_EQ(position, p);
      }
    }
}

TEST_P(WriteCache, SlotsBeyondTwoToThe31Elements) {
  Rng rng(2);
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16}) {
    TestCache cache(*backend, {format, 64, 128, TestCache::kFarPage}, {100, 100}, rng);
    const std::vector<float> rows[] = {rng.uniforms(100 * 128), rng.uniforms(100 * 128)};
    for (int64_t s : {0, 1}) cache.write(kLatents, s, 0, rows[s]);
    for (int64_t s : {0, 1})
      for (int64_t p : {0, 63, 64, 99})
        EXPECT_EQ(read_latent(*backend, cache, s, p, 64), stored(*backend, format, rows[s], p, 128, 64))
            << s << " " << p;
  }
}

}  // namespace
}  // namespace indexshare
