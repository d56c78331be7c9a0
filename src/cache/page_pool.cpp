// SPDX-License-Identifier: Apache-2.0
#include "cache/page_pool.h"

#include "base/check.h"

namespace indexshare {

PagePool::PagePool(int64_t num_pages) : num_pages_(num_pages) {}

int32_t PagePool::allocate() {
  if (num_used_ == num_pages_)
    fail(ErrorCode::out_of_memory, "page pool: all {} pages are in use", num_pages_);
  ++num_used_;
  if (!free_.empty()) {
    const int32_t page = free_.back();
    free_.pop_back();
    holders_[page] = 1;
    return page;
  }
  holders_.push_back(1);
  return static_cast<int32_t>(holders_.size() - 1);
}

void PagePool::retain(int32_t page) {
  ENSURE(page >= 0 && page < std::ssize(holders_) && holders_[page] > 0,
         "retain of page {} that nobody holds", page);
  ++holders_[page];
}

void PagePool::release(int32_t page) {
  ENSURE(page >= 0 && page < std::ssize(holders_) && holders_[page] > 0,
         "release of page {} that nobody holds", page);
  if (--holders_[page] > 0) return;
  free_.push_back(page);
  --num_used_;
}

bool PagePool::is_shared(int32_t page) const { return holders_.at(page) > 1; }

}  // namespace indexshare
