// SPDX-License-Identifier: Apache-2.0
// PagePool: which physical pages are free and how many sequences hold each one. Knows nothing of their
// contents.
#pragma once

#include <cstdint>
#include <iterator>
#include <vector>

namespace indexshare {

class PagePool {
 public:
  explicit PagePool(int64_t num_pages);

  /// The lowest-numbered page never used before, or the one released last. @throws Error{out_of_memory} when
  /// none is left.
  int32_t allocate();
  void retain(int32_t page);
  void release(int32_t page);
  bool is_shared(int32_t page) const;

  int64_t num_free() const { return num_pages_ - num_used_; }
  /// Free pages that were used before, so that their memory is already this process's.
  int64_t num_free_resident() const { return std::ssize(free_); }
  int64_t num_pages() const { return num_pages_; }

 private:
  int64_t num_pages_ = 0, num_used_ = 0;
  std::vector<int32_t> holders_;  // [pages handed out so far] sequences that hold each page
  std::vector<int32_t> free_;     // released pages, last in first out: their memory is warm
};

}  // namespace indexshare
