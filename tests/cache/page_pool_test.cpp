// SPDX-License-Identifier: Apache-2.0
#include "cache/page_pool.h"

#include <gtest/gtest.h>

#include "indexshare/error.h"

namespace indexshare {
namespace {

TEST(PagePool, HandsOutEveryPageOnceThenRefuses) {
  PagePool pool(3);
  EXPECT_EQ(pool.allocate(), 0);
  EXPECT_EQ(pool.allocate(), 1);
  EXPECT_EQ(pool.allocate(), 2);
  EXPECT_EQ(pool.num_free(), 0);
  EXPECT_THROW(pool.allocate(), Error);
}

TEST(PagePool, AReleasedPageIsReusedFirst) {
  PagePool pool(4);
  pool.allocate();
  const int32_t second = pool.allocate();
  pool.release(second);
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(pool.num_free_resident(), 1);
  EXPECT_EQ(pool.allocate(), second);
}

TEST(PagePool, ASharedPageStaysUntilItsLastHolderLetsGo) {
  PagePool pool(2);
  const int32_t page = pool.allocate();
  pool.retain(page);
  EXPECT_TRUE(pool.is_shared(page));
  pool.release(page);
  EXPECT_FALSE(pool.is_shared(page));
  EXPECT_EQ(pool.num_free(), 1);
  pool.release(page);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_THROW(pool.release(page), Error);
}

}  // namespace
}  // namespace indexshare
