// SPDX-License-Identifier: Apache-2.0
#include "cache/paged_cache.h"

#include <gtest/gtest.h>

#include "indexshare/error.h"

namespace indexshare {
namespace {

constexpr int64_t kPage = 4, kLatent = 3, kKey = 2;

class PagedCacheTest : public ::testing::Test {
 protected:
  PagedCacheTest()
      : backend(make_backend("reference", 1)),
        cache(*backend, {.num_layers = 2,
                         .num_index_slots = 1,
                         .latent_row_dim = kLatent,
                         .index_key_dim = kKey,
                         .page_size = kPage,
                         .num_positions = 8 * kPage}) {}

  // Grows by one position and writes `value` into every layer's latent and the index key.
  void append(CachedSequence& s, float value) {
    const int64_t position = s.length;
    cache.grow(s, position + 1);
    const std::vector<float> row(kLatent, value);
    const SequenceRows span{
        .row_begin = 0, .row_end = 1, .first_position = position, .page_table = s.pages.data()};
    for (int layer = 0; layer < 2; ++layer)
      backend->write_latents(
          {.x = row.data(), .x_stride = kLatent, .cache = cache.latents(layer), .sequences = {&span, 1}});
    backend->write_index_keys(
        {.x = row.data(), .x_stride = kKey, .cache = cache.index_keys(0), .sequences = {&span, 1}});
  }

  // The reference backend keeps rows one after another.
  float latent(const CachedSequence& s, int layer, int64_t position) const {
    return static_cast<const float*>(cache.latents(layer).pages)[slot(s, position) * kLatent];
  }
  float key(const CachedSequence& s, int64_t position) const {
    return static_cast<const float*>(cache.index_keys(0).pages)[slot(s, position) * kKey];
  }
  static int64_t slot(const CachedSequence& s, int64_t position) {
    return s.pages[position / kPage] * kPage + position % kPage;
  }

  std::unique_ptr<Backend> backend;
  PagedCache cache;
};

TEST_F(PagedCacheTest, AForkSharesPagesUntilOneOfTheTwoWrites) {
  CachedSequence parent;
  for (int i = 0; i < 6; ++i) append(parent, static_cast<float>(i));
  EXPECT_EQ(cache.num_free_pages(), 6);
  CachedSequence child = cache.fork(parent);
  EXPECT_EQ(cache.num_free_pages(), 6);
  EXPECT_EQ(cache.pages_to_grow(child, 7), 1);  // the copy of the half-filled page

  append(child, 100);
  append(parent, 200);
  EXPECT_EQ(child.pages[0], parent.pages[0]);
  EXPECT_NE(child.pages[1], parent.pages[1]);
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(latent(child, layer, 5), 5);
    EXPECT_EQ(latent(parent, layer, 5), 5);
    EXPECT_EQ(latent(child, layer, 6), 100);
    EXPECT_EQ(latent(parent, layer, 6), 200);
  }
  EXPECT_EQ(key(child, 6), 100);  // index keys moved with the latents
  EXPECT_EQ(key(parent, 6), 200);
  EXPECT_EQ(key(child, 5), 5);
}

TEST_F(PagedCacheTest, TruncateGivesPagesBackAndLaterRowsOverwrite) {
  CachedSequence s;
  for (int i = 0; i < 10; ++i) append(s, static_cast<float>(i));
  cache.truncate(s, 3);
  EXPECT_EQ(s.pages.size(), 1u);
  EXPECT_EQ(cache.num_free_pages(), 7);
  append(s, 33);
  EXPECT_EQ(latent(s, 0, 2), 2);
  EXPECT_EQ(latent(s, 1, 3), 33);
  EXPECT_EQ(key(s, 3), 33);
}

TEST_F(PagedCacheTest, TruncatingAForkLeavesTheParentAlone) {
  CachedSequence parent;
  for (int i = 0; i < 8; ++i) append(parent, static_cast<float>(i));
  CachedSequence child = cache.fork(parent);
  cache.truncate(child, 2);
  append(child, 50);  // into a page the parent still holds
  EXPECT_EQ(latent(parent, 0, 2), 2);
  EXPECT_EQ(latent(child, 0, 2), 50);
  EXPECT_EQ(latent(parent, 1, 7), 7);
}

TEST_F(PagedCacheTest, AGrowThatDoesNotFitChangesNothing) {
  CachedSequence s;
  append(s, 1);
  EXPECT_THROW(cache.grow(s, 8 * kPage + 1), Error);
  EXPECT_EQ(s.length, 1);
  EXPECT_EQ(cache.num_free_pages(), 7);
  cache.grow(s, 8 * kPage);
  EXPECT_EQ(cache.num_free_pages(), 0);
}

// An MTP layer writes its row of the last position when the sequence goes on: at the end of a page, too.
TEST_F(PagedCacheTest, WithLateRowsAFullLastPageIsCopiedBeforeASequenceGoesOn) {
  for (const int64_t late_rows : {0, 1}) {
    CacheConfig config = cache.config();
    config.late_rows = late_rows;
    PagedCache late(*backend, config);
    CachedSequence parent;
    late.grow(parent, 2 * kPage);
    CachedSequence child = late.fork(parent);
    EXPECT_EQ(late.pages_to_grow(child, 2 * kPage + 1), 1 + late_rows);
    late.grow(child, 2 * kPage + 1);
    EXPECT_EQ(child.pages[0], parent.pages[0]);
    EXPECT_EQ(child.pages[1] == parent.pages[1], late_rows == 0);
    late.grow(parent, 2 * kPage + 1);  // its page is its own by now
    CachedSequence empty;
    EXPECT_EQ(late.pages_to_grow(empty, 1), 1);
  }
}

TEST(CacheBytes, GlmAtOneMillionTokens) {
  CacheConfig config{.num_layers = 78,
                     .num_index_slots = 21,
                     .latent_row_dim = 576,
                     .index_key_dim = 128,
                     .rope_dim = 64,
                     .latent_format = RowFormat::bf16,
                     .index_key_format = RowFormat::bf16};
  for (const char* name : {"reference", "cpu"}) {
    const auto backend = make_backend(name, 1);
    const CacheBytesPerToken bytes = cache_bytes_per_token(config, *backend);
    EXPECT_EQ(bytes.latents, 89856u);    // 94.2 GB at 2^20 positions
    EXPECT_EQ(bytes.index_keys, 5376u);  // 5.64 GB
  }
  config.latent_format = config.index_key_format = RowFormat::int8;
  const CacheBytesPerToken bytes = cache_bytes_per_token(config, *make_backend("reference", 1));
  EXPECT_EQ(bytes.latents, 656u * 78);     // FlashMLA's 8-bit row: 512 codes, 4 scales, 64 bf16
  EXPECT_EQ(bytes.index_keys, 132u * 21);  // DeepGEMM's: 128 codes, 1 scale
}

}  // namespace
}  // namespace indexshare
