// SPDX-License-Identifier: Apache-2.0
#include "random_data.h"

#include <algorithm>
#include <numeric>

namespace indexshare {

float random_value(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(static_cast<int64_t>(state >> 40)) * 0x1p-23f - 1.0f;
}

std::vector<float> random_floats(int64_t count, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = random_value(seed);
  return values;
}

RandomCache::RandomCache(Backend& backend, Kind kind, RowFormat format, int64_t row_dim, int64_t rope_dim,
                         int64_t length, uint64_t seed)
    : table(static_cast<size_t>((length + kPageSize - 1) / kPageSize)) {
  std::iota(table.begin(), table.end(), 0);
  uint64_t state = seed;
  for (size_t p = table.size() - 1; p > 0; --p) {
    random_value(state);
    std::swap(table[p], table[(state >> 33) % (p + 1)]);
  }
  const bool keys = kind == Kind::index_keys;
  pages = {nullptr, format, kPageSize, row_dim, keys ? 0 : rope_dim};
  const size_t page_bytes = keys ? backend.index_key_page_bytes(pages) : backend.latent_page_bytes(pages);
  bytes_per_row = static_cast<double>(page_bytes) / kPageSize;
  buffer_ = backend.allocate(page_bytes * table.size());
  pages.pages = buffer_->data();
  constexpr int64_t kChunk = 4096;
  for (int64_t position = 0; position < length; position += kChunk) {
    const std::vector<float> rows = random_floats(kChunk * row_dim, seed + static_cast<uint64_t>(position));
    const SequenceRows s{0, std::min(kChunk, length - position), position, table.data()};
    const WriteCacheArgs args{rows.data(), row_dim, pages, {&s, 1}};
    keys ? backend.write_index_keys(args) : backend.write_latents(args);
  }
}

}  // namespace indexshare
