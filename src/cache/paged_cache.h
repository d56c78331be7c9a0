// SPDX-License-Identifier: Apache-2.0
// PagedCache: MLA latents of every layer and index keys of the full layers, in pages. One page table serves
// all layers, so that latents and index keys of a position always move together, and a selection is
// translated to physical slots once for a whole share group.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "cache/page_pool.h"

namespace indexshare {

struct CacheConfig {
  int num_layers = 0;
  int num_index_slots = 0;  // layers that keep index keys
  int64_t latent_row_dim = 0, index_key_dim = 0;
  int64_t rope_dim = 0;  // last elements of a latent row
  RowFormat latent_format = RowFormat::f32, index_key_format = RowFormat::f32;
  int64_t page_size = 64;     // positions a page
  int64_t num_positions = 0;  // capacity over all sequences; rounded up to pages
  // Last positions of a sequence whose rows may be written when it goes on: 1 where an MTP layer, whose row t
  // needs the token at t + 1, keeps rows of its own.
  int64_t late_rows = 0;
};

/// Bytes one cached position takes over all layers.
struct CacheBytesPerToken {
  size_t latents = 0, index_keys = 0;
};
CacheBytesPerToken cache_bytes_per_token(const CacheConfig& config, const Backend& backend);

/// One sequence's page table. Move-only in spirit: copies are made by PagedCache::fork alone.
struct CachedSequence {
  std::vector<int32_t> pages;  // physical page of each logical page
  int64_t length = 0;          // positions written
};

class PagedCache {
 public:
  PagedCache(Backend& backend, const CacheConfig& config);

  const CacheConfig& config() const { return config_; }
  CachePages latents(int layer) const;    // row_dim = latent_row_dim
  CachePages index_keys(int slot) const;  // row_dim = index_key_dim

  int64_t pages_for(int64_t num_positions) const;
  int64_t num_free_pages() const { return pool_.num_free(); }
  int64_t num_free_resident_pages() const { return pool_.num_free_resident(); }
  /// Pages grow() would take: new ones, and one for the copy of a last page that others hold too.
  int64_t pages_to_grow(const CachedSequence& sequence, int64_t new_length) const;
  int64_t num_pages() const { return pool_.num_pages(); }

  /// Makes positions [length, new_length) writable: allocates pages and copies a last page that others hold
  /// too.
  /// @throws Error{out_of_memory}, the sequence unchanged.
  void grow(CachedSequence& sequence, int64_t new_length);
  CachedSequence fork(const CachedSequence& sequence);
  void truncate(CachedSequence& sequence, int64_t new_length);

 private:
  bool writes_into_shared_page(const CachedSequence& sequence) const;
  void copy_page(int32_t from, int32_t to);

  Backend& backend_;
  CacheConfig config_;
  PagePool pool_;
  size_t latent_page_bytes_ = 0, index_page_bytes_ = 0;
  std::vector<std::unique_ptr<Buffer>> latents_;     // [num_layers] of num_pages pages
  std::vector<std::unique_ptr<Buffer>> index_keys_;  // [num_index_slots] of num_pages pages
};

}  // namespace indexshare
