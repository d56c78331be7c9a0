// SPDX-License-Identifier: Apache-2.0
// How rounds of drafts run, and that nothing of them stays behind: the mistakes that engines made with
// selections shared across draft steps. None of them changes a text, so draft logits and counters are looked
// at.
#include <algorithm>

#include "drafts.h"

namespace indexshare {
namespace {

// Bit for bit, where `some` has anything to say.
void expect_within(const Drafts& some, const Drafts& all, const char* what) {
  ASSERT_FALSE(some.empty()) << what;
  for (const auto& [key, row] : some) {
    ASSERT_TRUE(all.contains(key)) << what << ": position " << key.first << " step " << key.second;
    EXPECT_EQ(row, all.at(key)) << what << ": position " << key.first << " step " << key.second;
  }
}

int32_t argmax(const std::vector<float>& row) {
  return static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
}

// Known mistake: the sharing is silently off, or on where it was switched off.
TEST(DraftRounds, OneIndexerPassARound) {
  for (const bool share : {true, false}) {
    const auto e = load(kDraftingModel, {.draft_tokens = 4, .draft_index_share = share});
    EXPECT_EQ(e->info().draft_index_share, share);
    const Completion c = e->generate(greedy_request(random_tokens(70, 1)));
    const Counters counters = e->counters();
    const auto& drafting = counters.drafting;
    EXPECT_EQ(counters.indexer_passes, 4 * counters.forward_passes);  // of FFFSSSFS
    // The MTP layer reads on behind every pass of the target but the last; the passes after that are drafts.
    const uint64_t first_passes = counters.forward_passes - 1;
    const uint64_t undrafted = 39 - c.drafts.rounds - sum(c.drafts.accepted);  // the last token, maybe
    EXPECT_EQ(first_passes, c.drafts.rounds + undrafted);
    EXPECT_EQ(drafting.passes - first_passes, sum(c.drafts.proposed) - c.drafts.proposed[0]);
    EXPECT_EQ(drafting.indexer_passes, share ? first_passes : drafting.passes);
    EXPECT_EQ(drafting.statistics.rounds, c.drafts.rounds);
    EXPECT_EQ(drafting.statistics.accepted, c.drafts.accepted);
    EXPECT_EQ(counters.tokens, 70 + c.drafts.rounds + sum(c.drafts.proposed) + undrafted);
  }
  const auto off =
      load(kDraftingModel, {.hf_overrides = R"({"index_share_for_mtp_iteration":false})", .draft_tokens = 4});
  EXPECT_FALSE(off->info().draft_index_share);  // a checkpoint that was not trained so
}

// Known mistake: the round goes on from the last row of the verification instead of the last accepted one.
// Every round of a request is held against the rounds that evaluate() finds over the same text.
TEST(DraftRounds, RoundsGoOnFromTheLastAcceptedRow) {
  constexpr int64_t kDrafts = 3;
  const auto prompt = random_tokens(40, 4);
  for (const bool share : {true, false}) {
    const auto e = load(kDraftingModel, {.draft_tokens = kDrafts, .draft_index_share = share});
    const Completion c = e->generate(greedy_request(prompt, 24));
    std::vector<int32_t> text = prompt;
    for (int32_t token : ids(c)) text.push_back(token);

    std::vector<uint64_t> accepted(kDrafts), proposed(kDrafts);
    for (size_t known = prompt.size() + 1; known + 1 < text.size();) {
      // The round begins at the row before the last known token, and is fed with what it drafts itself.
      std::vector<int32_t> fed(text.begin(), text.begin() + static_cast<int64_t>(known));
      const auto anchor = static_cast<int64_t>(known) - 2;
      const size_t num_drafts = std::min<size_t>(kDrafts, text.size() - known - 1);
      size_t matching = 0;
      for (size_t i = 0; i < num_drafts; ++i) {
        const int32_t drafted = argmax(drafts_of(*e, fed).at({anchor, static_cast<int64_t>(i) + 1}));
        ++proposed[i];
        if (matching == i && drafted == text[known + i]) {
          ++accepted[i];
          ++matching;
        }
        fed.push_back(drafted);
      }
      known += matching + 1;
    }
    EXPECT_EQ(accepted, c.drafts.accepted) << "share " << share;
    EXPECT_EQ(proposed, c.drafts.proposed) << "share " << share;
  }
}

// Known mistakes: drafts leave keys behind, rejected ones stay in a cache, pages are not copied when forks
// part. What the MTP layer says afterwards equals what it says over a fresh cache, bit for bit.
TEST(DraftRounds, NothingStaysOfADraft) {
  for (const char* model : {kDraftingModel, "tiny-glm-mtp-random", "tiny-deepseek-mtp"})
    for (const bool share : {true, false}) {
      const auto e = load(model, {.chunk_size = 32, .draft_tokens = 3, .draft_index_share = share});
      Request r = greedy_request(random_tokens(64, 5), 30);
      r.sequence = e->create_sequence();
      const Completion c = e->generate(r);
      const SequenceId child = e->fork(r.sequence);
      auto text = e->tokens(r.sequence);
      const auto left = random_tokens(40, 6), right = random_tokens(50, 7);
      const auto left_drafts = drafts_of(*e, r.sequence, left), right_drafts = drafts_of(*e, child, right);
      for (const auto& [suffix, drafts] : {std::pair{left, left_drafts}, std::pair{right, right_drafts}}) {
        auto all = text;
        all.insert(all.end(), suffix.begin(), suffix.end());
        const Drafts fresh = drafts_of(*e, all);
        expect_within(drafts, fresh, model);
      }
    }
}

TEST(DraftRounds, ForksPartAtTheEndOfAPage) {
  const auto e = load(kDraftingModel, {.draft_tokens = 3});
  const auto page = random_tokens(64, 8);  // the MTP layer's last row of this page is written later
  const SequenceId parent = e->create_sequence();
  drafts_of(*e, parent, page);
  const SequenceId child = e->fork(parent);
  const auto left = random_tokens(10, 9), right = random_tokens(10, 10);
  drafts_of(*e, parent, left);
  drafts_of(*e, child, right);
  for (const auto& [sequence, suffix] : {std::pair{parent, left}, std::pair{child, right}}) {
    auto all = page;
    for (const auto& part : {suffix, random_tokens(10, 11)}) all.insert(all.end(), part.begin(), part.end());
    expect_within(drafts_of(*e, sequence, random_tokens(10, 11)), drafts_of(*e, all), "fork");
  }
}

TEST(DraftRounds, ChunksAndThreadsDoNotChangeADraft) {
  const auto tokens = random_tokens(100, 12);
  for (const char* model : {"tiny-glm-mtp-random", "tiny-deepseek-mtp"}) {
    const Drafts expected = drafts_of(*load(model, {.draft_tokens = 3}), tokens);
    EXPECT_EQ(expected.size(), 99u + 98u + 97u);
    for (int64_t chunk : {4, 7, 33})
      EXPECT_EQ(drafts_of(*load(model, {.threads = 2, .chunk_size = chunk, .draft_tokens = 3}), tokens),
                expected);
    const Drafts longer = drafts_of(*load(model, {.draft_tokens = 5}), tokens);
    for (const auto& [key, row] : expected) EXPECT_EQ(longer.at(key), row);
  }
}

TEST(DraftRounds, SharingChangesLaterStepsAlone) {
  const auto tokens = random_tokens(100, 13);
  const std::string shares = R"({"index_share_for_mtp_iteration":true})";
  for (const char* model : {"tiny-glm-mtp-random", "tiny-deepseek-mtp"}) {
    const Drafts shared = drafts_of(*load(model, {.hf_overrides = shares, .draft_tokens = 2}), tokens),
                 own = drafts_of(*load(model, {.draft_tokens = 2, .draft_index_share = false}), tokens);
    int differing = 0;
    for (const auto& [key, row] : shared) {
      if (key.second == 1 || key.first < 8) {  // index_topk 8: everything is seen
        EXPECT_EQ(row, own.at(key));
      } else {
        differing += row != own.at(key);
      }
    }
    EXPECT_GT(differing, 50);
  }
}

}  // namespace
}  // namespace indexshare
