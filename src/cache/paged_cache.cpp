// SPDX-License-Identifier: Apache-2.0
#include "cache/paged_cache.h"

#include <algorithm>

#include "base/check.h"

namespace indexshare {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

CachePages latent_rows(const CacheConfig& c, void* pages) {
  return {pages, c.latent_format, c.page_size, c.latent_row_dim, c.rope_dim};
}

CachePages index_key_rows(const CacheConfig& c, void* pages) {
  return {pages, c.index_key_format, c.page_size, c.index_key_dim, 0};
}

}  // namespace

CacheBytesPerToken cache_bytes_per_token(const CacheConfig& config, const Backend& backend) {
  const auto rows = static_cast<size_t>(config.page_size);
  CacheBytesPerToken bytes;
  bytes.latents = backend.latent_page_bytes(latent_rows(config, nullptr)) * config.num_layers / rows;
  if (config.num_index_slots > 0)
    bytes.index_keys =
        backend.index_key_page_bytes(index_key_rows(config, nullptr)) * config.num_index_slots / rows;
  return bytes;
}

PagedCache::PagedCache(Backend& backend, const CacheConfig& config)
    : backend_(backend), config_(config), pool_(ceil_div(config.num_positions, config.page_size)) {
  ENSURE(config.page_size > 0 && config.num_positions > 0, "page size {}, positions {}", config.page_size,
         config.num_positions);
  // Untouched pages cost no memory, so the whole capacity is laid out at once.
  latent_page_bytes_ = backend.latent_page_bytes(latent_rows(config, nullptr));
  for (int layer = 0; layer < config.num_layers; ++layer)
    latents_.push_back(backend.allocate(latent_page_bytes_ * pool_.num_pages()));
  if (config.num_index_slots == 0) return;
  index_page_bytes_ = backend.index_key_page_bytes(index_key_rows(config, nullptr));
  for (int slot = 0; slot < config.num_index_slots; ++slot)
    index_keys_.push_back(backend.allocate(index_page_bytes_ * pool_.num_pages()));
}

CachePages PagedCache::latents(int layer) const { return latent_rows(config_, latents_.at(layer)->data()); }

CachePages PagedCache::index_keys(int slot) const {
  return index_key_rows(config_, index_keys_.at(slot)->data());
}

int64_t PagedCache::pages_for(int64_t num_positions) const {
  return ceil_div(num_positions, config_.page_size);
}

int64_t PagedCache::pages_to_grow(const CachedSequence& sequence, int64_t new_length) const {
  if (new_length <= sequence.length) return 0;
  return pages_for(new_length) - std::ssize(sequence.pages) + (writes_into_shared_page(sequence) ? 1 : 0);
}

bool PagedCache::writes_into_shared_page(const CachedSequence& sequence) const {
  if (sequence.pages.empty()) return false;
  const bool last_page_is_open = sequence.length % config_.page_size != 0 || config_.late_rows > 0;
  return last_page_is_open && pool_.is_shared(sequence.pages.back());
}

void PagedCache::grow(CachedSequence& sequence, int64_t new_length) {
  ENSURE(new_length >= sequence.length, "grow from {} to {} positions", sequence.length, new_length);
  const int64_t needed = pages_to_grow(sequence, new_length);
  if (needed > pool_.num_free())
    fail(ErrorCode::out_of_memory, "cache: {} more positions need {} pages of {}, {} are free",
         new_length - sequence.length, needed, config_.page_size, pool_.num_free());
  if (new_length > sequence.length && writes_into_shared_page(sequence)) {
    const int32_t copy = pool_.allocate();
    copy_page(sequence.pages.back(), copy);
    pool_.release(sequence.pages.back());
    sequence.pages.back() = copy;
  }
  while (std::ssize(sequence.pages) < pages_for(new_length)) sequence.pages.push_back(pool_.allocate());
  sequence.length = new_length;
}

CachedSequence PagedCache::fork(const CachedSequence& sequence) {
  for (int32_t page : sequence.pages) pool_.retain(page);
  return sequence;
}

void PagedCache::truncate(CachedSequence& sequence, int64_t new_length) {
  ENSURE(new_length >= 0 && new_length <= sequence.length, "truncate {} positions to {}", sequence.length,
         new_length);
  while (std::ssize(sequence.pages) > pages_for(new_length)) {
    pool_.release(sequence.pages.back());
    sequence.pages.pop_back();
  }
  sequence.length = new_length;
}

void PagedCache::copy_page(int32_t from, int32_t to) {
  const auto copy = [&](Buffer& buffer, size_t page_bytes) {
    std::byte* base = static_cast<std::byte*>(buffer.data());
    backend_.copy(base + page_bytes * to, base + page_bytes * from, page_bytes);
  };
  for (auto& layer : latents_) copy(*layer, latent_page_bytes_);
  for (auto& slot : index_keys_) copy(*slot, index_page_bytes_);
}

}  // namespace indexshare
