// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>

namespace indexshare {
namespace {

const auto kAlways = [](RequestId) { return true; };

std::vector<std::pair<RequestId, int64_t>> rows(const Scheduler& s, std::map<RequestId, WantedRows> wanted) {
  std::vector<std::pair<RequestId, int64_t>> result;
  for (const ScheduledRows& r : s.schedule([&](RequestId id) { return wanted.at(id); }))
    result.emplace_back(r.request, r.num_rows);
  return result;
}

TEST(Scheduler, DecodingRowsComeBeforePromptChunks) {
  Scheduler s({.max_rows = 10, .max_running = 4});
  for (RequestId id : {1, 2, 3}) s.enqueue(id);
  s.admit(kAlways);
  using Rows = std::vector<std::pair<RequestId, int64_t>>;
  EXPECT_EQ(rows(s, {{1, {100}}, {2, {1, true}}, {3, {100}}}), (Rows{{2, 1}, {1, 9}}));
  EXPECT_EQ(rows(s, {{1, {4}}, {2, {1, true}}, {3, {100}}}), (Rows{{2, 1}, {1, 4}, {3, 5}}));
  EXPECT_EQ(rows(s, {{1, {4}}, {2, {1, true}}, {3, {5, true}}}), (Rows{{2, 1}, {3, 5}, {1, 4}}));  // drafts
}

TEST(Scheduler, AdmitsInOrderAndNobodyOvertakes) {
  Scheduler s({.max_rows = 10, .max_running = 4});
  for (RequestId id : {1, 2, 3}) s.enqueue(id);
  s.admit([](RequestId id) { return id != 2; });  // 2 does not fit, so 3 waits behind it
  EXPECT_EQ(s.running(), std::vector<RequestId>{1});
  s.admit(kAlways);
  EXPECT_EQ(s.running(), (std::vector<RequestId>{1, 2, 3}));
}

TEST(Scheduler, HoldsTheLimitOfRunningRequests) {
  Scheduler s({.max_rows = 10, .max_running = 2});
  for (RequestId id : {1, 2, 3}) s.enqueue(id);
  s.admit(kAlways);
  EXPECT_EQ(s.running().size(), 2u);
  s.remove(1);
  s.admit(kAlways);
  EXPECT_EQ(s.running(), (std::vector<RequestId>{2, 3}));
  s.remove(2);
  s.remove(3);
  EXPECT_TRUE(s.idle());
}

}  // namespace
}  // namespace indexshare
