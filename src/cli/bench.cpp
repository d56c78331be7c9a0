// SPDX-License-Identifier: Apache-2.0
// indexshare bench: tokens per second at a depth of context, for each share plan. Every row is measured in a
// fresh process (this program again, with the hidden flag --row), so that its peak memory is its own.
#include <fmt/format.h>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>

#include "child_process.h"
#include "exit_codes.h"
#include "flags.h"
#include "indexshare/engine.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "request.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

constexpr uint64_t kSeed = 42;              // of the random tokens and cache rows
constexpr int64_t kMaxContext = INT32_MAX;  // positions of a cache

enum class Plans { shared, every_layer, both };
enum class Fill { random, prefill };

struct Row {
  int64_t context = 0;
  PlanChoice plan = PlanChoice::shared;
};

struct Options {
  EngineFlags engine;
  std::vector<int64_t> contexts = {4096, 16384, 65536};
  Plans plans = Plans::both;
  Fill fill = Fill::random;
  int64_t prefill_tokens = 512, decode_tokens = 32;
  bool json = false;
  std::vector<std::string> arguments;
  std::optional<Row> row;  // measure this one and nothing else
};

const char* name(PlanChoice plan) { return plan == PlanChoice::shared ? "shared" : "every_layer"; }
const char* name(Fill fill) { return fill == Fill::random ? "random" : "prefill"; }

std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
  return tokens;
}

Counters::Flops difference(const Counters::Flops& a, const Counters::Flops& b) {
  return {a.projections - b.projections,
          a.indexer_projections - b.indexer_projections,
          a.index_scores - b.index_scores,
          a.attention - b.attention,
          a.mlp - b.mlp,
          a.head - b.head};
}

// One row, in the process that was started for it.
class Measurement {
 public:
  Measurement(const Options& options, const Row& row) : options_(options), row_(row) {
    EngineFlags flags = options.engine;
    flags.notes = false;  // the same remarks for every row
    EngineOptions& engine = flags.options;
    engine.plan = row.plan;
    engine.allow_cost_only = row.plan == PlanChoice::every_layer;
    if (engine.ctx_size == 0) engine.ctx_size = row.context + options.prefill_tokens + options.decode_tokens;
    engine_ = load_engine(flags, !options.json);
    sequence_ = engine_->create_sequence();
  }

  Json run() {
    fill();
    const std::vector<int32_t> prompt = random_tokens(options_.prefill_tokens, vocab_size(), kSeed + 1);
    const std::vector<int32_t> reply = random_tokens(options_.decode_tokens, vocab_size(), kSeed + 2);
    read(std::span(prompt).first(1));  // touches weights and scratch memory for the first time
    engine_->truncate(sequence_, row_.context);

    const Counters before = engine_->counters();
    const Stopwatch prefill_watch;
    read(prompt);
    const double prefill_seconds = prefill_watch.seconds();
    engine_->truncate(sequence_, row_.context);  // decoding starts at the same depth
    const Stopwatch decode_watch;
    for (const int32_t& token : reply) read({&token, 1});
    const double decode_seconds = decode_watch.seconds();
    return result(before, prefill_seconds, decode_seconds);
  }

 private:
  int64_t vocab_size() const { return engine_->info().vocab_size; }

  void read(std::span<const int32_t> tokens, const Progress& progress = nullptr) {
    EvaluateOptions evaluate;
    evaluate.all_rows = false;
    evaluate.sink = [](int64_t, std::span<const float>) {};  // the last row's logits: generating needs them
    evaluate.progress = progress;
    engine_->evaluate(sequence_, tokens, evaluate);
  }

  void fill() {
    if (row_.context == 0) return;
    if (options_.fill == Fill::random) return engine_->fill_random(sequence_, row_.context, kSeed);
    ProgressBar bar("filling", !options_.json && !options_.engine.quiet);
    read(random_tokens(row_.context, vocab_size(), kSeed), bar.callback());
  }

  Json result(const Counters& before, double prefill_seconds, double decode_seconds) const {
    const Counters after = engine_->counters();
    const Counters::Flops flops = difference(after.flops, before.flops);
    const ModelInfo& info = engine_->info();
    return {{"context", row_.context},
            {"plan", name(row_.plan)},
            {"prefill_tokens_per_s", rate(options_.prefill_tokens, prefill_seconds)},
            {"decode_tokens_per_s", rate(options_.decode_tokens, decode_seconds)},
            {"prefill_s", prefill_seconds},
            {"decode_s", decode_seconds},
            {"rss_bytes", peak_rss_bytes()},
            {"indexer_passes", after.indexer_passes - before.indexer_passes},
            {"flops", flops.total()},
            {"flops_by_part", flops_json(flops)},
            {"cost_only", info.cost_only},
            {"fill", name(options_.fill)},
            {"backend", info.backend}};
  }

  const Options& options_;
  Row row_;
  std::unique_ptr<Engine> engine_;
  SequenceId sequence_ = 0;
};

// The row's measurement, or the failure of its process as ours (it has said why).
std::optional<Json> measure_in_child(const Options& options, const Row& row, int& exit_code) {
  std::vector<std::string> arguments = {"bench"};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  arguments.push_back(fmt::format("--row={}:{}", row.context, name(row.plan)));
  const ChildResult child = run_self(arguments);
  exit_code = child.exit_code;
  if (child.exit_code == 128 + SIGKILL) {
    print_error(
        fmt::format("context {}, {}: killed, most likely for want of memory", row.context, name(row.plan)));
    exit_code = kOutOfResource;
  }
  if (exit_code != kOk) return std::nullopt;
  return Json::parse(child.output);
}

std::vector<std::string> table_row(const Json& r) {
  std::string plan = r["plan"].get<std::string>() + (r["cost_only"].get<bool>() ? " (cost only)" : "");
  return {with_commas(r["context"].get<int64_t>()),
          plan,
          fmt::format("{:.1f}", r["prefill_tokens_per_s"].get<double>()),
          fmt::format("{:.2f}", r["decode_tokens_per_s"].get<double>()),
          human_bytes(r["rss_bytes"].get<double>()),
          with_commas(r["indexer_passes"].get<int64_t>()),
          human_flops(r["flops"].get<double>())};
}

void print_table(const Options& options, const Json& results) {
  std::vector<std::vector<std::string>> rows = {
      {"context", "plan", fmt::format("pp{} t/s", options.prefill_tokens),
       fmt::format("tg{} t/s", options.decode_tokens), "peak RSS", "indexer passes", "FLOP"}};
  bool cost_only = false;
  for (const Json& result : results) {
    rows.push_back(table_row(result));
    cost_only = cost_only || result["cost_only"].get<bool>();
  }
  print(table(rows, 2, TableStyle::markdown));
  print(
      fmt::format("\nppN: N prompt tokens read behind the context; tgN: N tokens generated there one by one; "
                  "cache filled by {}.\n",
                  options.fill == Fill::random ? "random rows" : "a true prefill"));
  if (cost_only) {
    print("cost only: the checkpoint has no indexers for its shared layers; they ran another layer's.\n");
  }
}

int run(const Options& options) {
  if (options.row) {
    print(Measurement(options, *options.row).run().dump());
    return kOk;
  }
  for (const int64_t context : options.contexts) {
    if (context + options.prefill_tokens + options.decode_tokens > kMaxContext) {
      throw UsageError(fmt::format("--context: expected at most {} with the tokens timed, got {}",
                                   kMaxContext - options.prefill_tokens - options.decode_tokens, context));
    }
  }
  Json results = Json::array();
  for (const int64_t context : options.contexts) {
    for (const PlanChoice plan : {PlanChoice::shared, PlanChoice::every_layer}) {
      if (options.plans == Plans::shared && plan == PlanChoice::every_layer) continue;
      if (options.plans == Plans::every_layer && plan == PlanChoice::shared) continue;
      int code = kOk;
      const std::optional<Json> result = measure_in_child(options, {context, plan}, code);
      if (!result) return code;
      results.push_back(*result);
    }
  }
  if (options.json) {
    print_json({{"schema_version", kSchemaVersion},
                {"model", options.engine.model},
                {"prefill_tokens", options.prefill_tokens},
                {"decode_tokens", options.decode_tokens},
                {"results", results}});
  } else {
    print_table(options, results);
  }
  return kOk;
}

Row parse_row(const std::string& text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const bool shared = text.substr(colon) == ":shared";
  return {parse_number<int64_t>("--row", text.substr(0, colon)),
          shared ? PlanChoice::shared : PlanChoice::every_layer};
}

}  // namespace

Action add_bench(CLI::App& app, const std::vector<std::string>& arguments) {
  const auto options = std::make_shared<Options>();
  options->arguments = arguments;
  add_engine_flags(app, options->engine, /*with_plan=*/false);
  add_number_list(app, "-d,--context", options->contexts, "Depths of context, separated by commas",
                  {0, kMaxContext});
  add_choice<Plans>(app, "--plan", options->plans, "Layers that run an indexer",
                    {{"shared", Plans::shared}, {"every_layer", Plans::every_layer}, {"both", Plans::both}});
  add_choice<Fill>(app, "--fill", options->fill,
                   "What stands in the cache: random rows, or a prompt truly read",
                   {{"random", Fill::random}, {"prefill", Fill::prefill}});
  add_number<int64_t>(app, "--prefill-tokens", options->prefill_tokens, "Prompt tokens timed at each depth",
                      {1, kMaxContext});
  add_number<int64_t>(app, "--decode-tokens", options->decode_tokens, "Generated tokens timed at each depth",
                      {1, kMaxContext});
  add_json_flag(app, options->json);
  app.add_option_function<std::string>("--row",
                                       [options](const std::string& text) { options->row = parse_row(text); })
      ->group("");
  return [options, plan = app.get_option("--plan")] {
    const bool dense = options->engine.options.attention == AttentionMode::dense;
    if (dense && plan->count() == 0) options->plans = Plans::shared;  // there is one way to see everything
    if (dense && options->plans != Plans::shared) {
      throw UsageError("--attention dense runs no indexer: expected --plan shared beside it");
    }
    return run(*options);
  };
}

}  // namespace indexshare::cli
