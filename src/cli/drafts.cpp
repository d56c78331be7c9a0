// SPDX-License-Identifier: Apache-2.0
#include "drafts.h"

#include <fmt/format.h>

#include "flags.h"
#include "report.h"

namespace indexshare::cli {
namespace {

// Share of the rounds in which the draft at each place was kept.
std::vector<double> acceptance(const DraftStatistics& drafts) {
  std::vector<double> shares;
  for (size_t i = 0; i < drafts.proposed.size(); ++i) {
    const auto proposed = static_cast<double>(drafts.proposed[i]);
    shares.push_back(proposed > 0 ? static_cast<double>(drafts.accepted[i]) / proposed : 0);
  }
  return shares;
}

}  // namespace

void add_draft_flags(CLI::App& app, EngineOptions& options) {
  const FlagGroup group(app, "Drafting (the same text sooner, or not)");
  add_number<int64_t>(app, "--draft-tokens", options.draft_tokens,
                      "Tokens that the model's MTP layer drafts ahead (0: off)", {0, kMaxDraftTokens});
  const auto each_its_own = [&options](int64_t) { options.draft_index_share = false; };
  app.add_flag_function("--no-draft-index-share", each_its_own,
                        "Every draft finds its own selection instead of the round's first")
      ->needs(app.get_option("--draft-tokens"));
}

Json drafts_json(const DraftStatistics& drafts) {
  return {{"rounds", drafts.rounds},
          {"proposed", drafts.proposed},
          {"accepted", drafts.accepted},
          {"acceptance", acceptance(drafts)},
          {"accepted_length", drafts.accepted_length()}};
}

Json drafting_json(const Counters::Drafting& drafting) {
  return {{"rows", drafting.rows},
          {"passes", drafting.passes},
          {"indexer_passes", drafting.indexer_passes},
          {"flops", flops_json(drafting.flops)}};
}

std::string drafts_summary(const DraftStatistics& drafts) {
  std::string text = fmt::format("drafts: {:.2f} tokens a round, accepted", drafts.accepted_length());
  for (double share : acceptance(drafts)) text += fmt::format(" {:.0f} %", 100 * share);
  return text;
}

}  // namespace indexshare::cli
