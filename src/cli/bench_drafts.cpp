// SPDX-License-Identifier: Apache-2.0
#include "bench_drafts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "drafts.h"
#include "exit_codes.h"
#include "flags.h"
#include "report.h"
#include "request.h"

namespace indexshare::cli {
namespace {

enum class Way { plain, shared, own };
constexpr std::array kWays = {Way::plain, Way::shared, Way::own};

const char* name(Way way) { return way == Way::plain ? "off" : way == Way::shared ? "shared" : "own"; }

std::vector<int32_t> read_tokens(const DraftBench& bench, const Engine& engine) {
  const std::string text = read_file(*bench.text_file);
  std::vector<int32_t> tokens = engine.tokenizer().encode(text, SpecialTokens::as_text);
  const int64_t longest = std::ranges::max(bench.contexts);
  if (std::ssize(tokens) < longest) {
    throw UsageError(fmt::format("--prompt-file: expected a text of at least {} tokens, {} has {}", longest,
                                 *bench.text_file, tokens.size()));
  }
  return tokens;
}

// The i-th of `count` prompts of `length` tokens, spread over the text.
std::vector<int32_t> prompt_at(const std::vector<int32_t>& text, int64_t length, int64_t i, int64_t count) {
  const int64_t room = std::ssize(text) - length;
  const int64_t begin = count > 1 ? room * i / (count - 1) : 0;
  return {text.begin() + begin, text.begin() + begin + length};
}

void add(DraftStatistics& sum, const DraftStatistics& drafts) {
  sum.rounds += drafts.rounds;
  sum.proposed.resize(drafts.proposed.size());
  sum.accepted.resize(drafts.accepted.size());
  for (size_t i = 0; i < drafts.proposed.size(); ++i) {
    sum.proposed[i] += drafts.proposed[i];
    sum.accepted[i] += drafts.accepted[i];
  }
}

double seconds_of(const Counters::Seconds& s) {
  return s.projections + s.indexer_projections + s.index_selection + s.attention + s.mlp + s.head + s.other;
}

// What a way of decoding did at one depth, over all prompts.
struct Total {
  DraftStatistics drafts;
  std::vector<double> rates;  // tokens/s of each prompt
  std::vector<std::vector<int32_t>> replies;
  uint64_t target_passes = 0, target_indexer_passes = 0, mtp_passes = 0, mtp_indexer_passes = 0;
  double mtp_seconds = 0;
};

Total measure(Engine& engine, const DraftBench& bench, const std::vector<int32_t>& text, int64_t context) {
  Total total;
  for (int64_t i = 0; i < bench.num_prompts; ++i) {
    Request request;
    request.tokens = prompt_at(text, context, i, bench.num_prompts);
    request.sampling = {.max_tokens = bench.decode_tokens, .temperature = 0, .ignore_eos = true};
    Counters before;  // at the first token: the prompt is not part of what is timed
    bool started = false;
    request.on_token = [&](const GeneratedToken&) {
      if (!std::exchange(started, true)) before = engine.counters();
    };
    const Completion completion = run_request(engine, std::move(request));
    const Counters after = engine.counters();
    add(total.drafts, completion.drafts);
    total.rates.push_back(rate(completion.timings.decode_tokens, completion.timings.decode_seconds));
    total.replies.emplace_back();
    for (const GeneratedToken& token : completion.tokens) total.replies.back().push_back(token.token);
    total.target_passes += after.forward_passes - before.forward_passes;
    total.target_indexer_passes += after.indexer_passes - before.indexer_passes;
    total.mtp_passes += after.drafting.passes - before.drafting.passes;
    total.mtp_indexer_passes += after.drafting.indexer_passes - before.drafting.indexer_passes;
    total.mtp_seconds += seconds_of(after.drafting.seconds) - seconds_of(before.drafting.seconds);
  }
  return total;
}

Json total_json(Way way, int64_t context, Total total, bool same_text) {
  std::ranges::sort(total.rates);
  Json json = {{"context", context},
               {"drafts", name(way)},
               {"decode_tokens_per_s", total.rates[total.rates.size() / 2]},
               {"slowest_tokens_per_s", total.rates.front()},
               {"fastest_tokens_per_s", total.rates.back()},
               {"target_passes", total.target_passes},
               {"target_indexer_passes", total.target_indexer_passes}};
  if (way == Way::plain) return json;
  json["mtp_passes"] = total.mtp_passes;
  json["mtp_indexer_passes"] = total.mtp_indexer_passes;
  json["mtp_seconds"] = total.mtp_seconds;
  json["same_text_as_without"] = same_text;
  json.update(drafts_json(total.drafts));
  return json;
}

std::unique_ptr<Engine> load(const DraftBench& bench, EngineFlags flags, Way way, bool first) {
  EngineOptions& options = flags.options;
  flags.notes = first;
  options.draft_tokens = way == Way::plain ? 0 : bench.draft_tokens;
  options.draft_index_share = way == Way::shared;
  if (options.ctx_size == 0) options.ctx_size = std::ranges::max(bench.contexts) + bench.decode_tokens;
  return load_engine(flags, first && !bench.json);
}

void print_table(const DraftBench& bench, const Json& results) {
  std::vector<std::vector<std::string>> rows = {{"context", "drafts", "decode t/s", "tokens a round",
                                                 "accepted, by place", "target passes", "MTP passes",
                                                 "MTP indexer passes"}};
  for (const Json& r : results) {
    rows.push_back(
        {with_commas(r["context"].get<int64_t>()), r["drafts"],
         fmt::format("{:.1f} ({:.0f}-{:.0f})", r["decode_tokens_per_s"].get<double>(),
                     r["slowest_tokens_per_s"].get<double>(), r["fastest_tokens_per_s"].get<double>())});
    std::vector<std::string>& row = rows.back();
    const std::string passes = with_commas(r["target_passes"].get<int64_t>());
    if (r["drafts"] == "off") {
      row.insert(row.end(), {"1.00", "", passes, "", ""});
      continue;
    }
    std::string places;
    for (const Json& share : r["acceptance"])
      places += fmt::format("{}{:.0f} %", places.empty() ? "" : " ", 100 * share.get<double>());
    row.insert(row.end(), {fmt::format("{:.2f}", r["accepted_length"].get<double>()), places, passes,
                           with_commas(r["mtp_passes"].get<int64_t>()),
                           with_commas(r["mtp_indexer_passes"].get<int64_t>())});
  }
  print(table(rows, 2, TableStyle::markdown));
  print(fmt::format(
      "\n{} prompts of {}, each continued greedily by {} tokens; medians (and ranges) of the prompts. "
      "shared: one selection a round; own: one a draft. What is accepted depends on the text, and a "
      "model that repeats itself accepts more.\n",
      bench.num_prompts, *bench.text_file, bench.decode_tokens));
}

}  // namespace

void add_draft_bench_flags(CLI::App& app, DraftBench& bench) {
  const FlagGroup group(app, "Drafting");
  add_number<int64_t>(
      app, "--draft-tokens", bench.draft_tokens,
      "Measure decoding with so many drafts of the MTP layer instead: without drafts, with one "
      "selection a round, and with one a draft",
      {0, kMaxDraftTokens});
  app.add_option(
         "-f,--prompt-file", bench.text_file,
         "Text whose stretches of --context tokens are the prompts, --repeat of them; real text, as random "
         "tokens would never be drafted right")
      ->type_name("FILE");
  app.get_option("--draft-tokens")->needs(app.get_option("--prompt-file"));
  app.get_option("--prompt-file")->needs(app.get_option("--draft-tokens"));
}

int run_draft_bench(const DraftBench& bench, const EngineFlags& flags) {
  std::vector<std::vector<Json>> results(bench.contexts.size());
  std::vector<std::vector<std::vector<int32_t>>> plain_replies;
  for (const Way way : kWays) {
    const auto engine = load(bench, flags, way, way == Way::plain);
    if (way == Way::shared && !engine->info().draft_index_share) continue;  // not trained so
    const std::vector<int32_t> text = read_tokens(bench, *engine);
    for (size_t c = 0; c < bench.contexts.size(); ++c) {
      Total total = measure(*engine, bench, text, bench.contexts[c]);
      if (way == Way::plain) plain_replies.push_back(total.replies);
      const bool same = total.replies == plain_replies[c];
      results[c].push_back(total_json(way, bench.contexts[c], std::move(total), same));
    }
  }
  Json rows = Json::array();
  for (const auto& context : results)
    for (const Json& row : context) rows.push_back(row);
  if (bench.json) {
    print_json({{"schema_version", kSchemaVersion},
                {"model", flags.model},
                {"draft_tokens", bench.draft_tokens},
                {"decode_tokens", bench.decode_tokens},
                {"prompts", bench.num_prompts},
                {"results", rows}});
  } else {
    print_table(bench, rows);
  }
  return kOk;
}

}  // namespace indexshare::cli
