// SPDX-License-Identifier: Apache-2.0
// indexshare bench: tokens per second at a depth of context, for each share plan. Every row is measured in a
// fresh process (this program again, with the hidden flag --row), so that its peak memory is its own.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>

#include "bench_drafts.h"
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
  int64_t prefill_tokens = 512, decode_tokens = 32, repeat = 3;
  bool json = false, breakdown = false;
  DraftBench drafts;
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

Counters difference(const Counters& a, const Counters& b) {
  Counters d;
  d.tokens = a.tokens - b.tokens;
  d.forward_passes = a.forward_passes - b.forward_passes;
  d.indexer_passes = a.indexer_passes - b.indexer_passes;
  d.flops = {a.flops.projections - b.flops.projections,
             a.flops.indexer_projections - b.flops.indexer_projections,
             a.flops.index_scores - b.flops.index_scores,
             a.flops.attention - b.flops.attention,
             a.flops.mlp - b.flops.mlp,
             a.flops.head - b.flops.head};
  d.seconds = {a.seconds.projections - b.seconds.projections,
               a.seconds.indexer_projections - b.seconds.indexer_projections,
               a.seconds.index_selection - b.seconds.index_selection,
               a.seconds.attention - b.seconds.attention,
               a.seconds.mlp - b.seconds.mlp,
               a.seconds.head - b.seconds.head,
               a.seconds.other - b.seconds.other};
  return d;
}

// Prefill or decode at one depth, timed some times over; of each repeat:
struct Phase {
  std::vector<double> seconds;
  std::vector<Counters> counters;

  // Of the repeat in the middle, as the first may be far from it.
  const Counters& typical() const {
    std::vector<size_t> order(seconds.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::sort(order, {}, [&](size_t n) { return seconds[n]; });
    return counters[order[(order.size() - 1) / 2]];
  }
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
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

    // In turn, so that a neighbour's load falls on both.
    Phase prefill, decode;
    for (int64_t n = 0; n < options_.repeat; ++n) {
      measure(prefill, [&] { read(prompt); });
      measure(decode, [&] {
        for (const int32_t& token : reply) read({&token, 1});
      });
    }
    return result(prefill, decode);
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

  // Runs `work` behind the context and takes its rows back.
  template <class Work>
  void measure(Phase& phase, const Work& work) {
    const Counters before = engine_->counters();
    const Stopwatch watch;
    work();
    phase.seconds.push_back(watch.seconds());
    phase.counters.push_back(difference(engine_->counters(), before));
    engine_->truncate(sequence_, row_.context);
  }

  static Json phase_json(const Phase& phase, int64_t tokens) {
    const Counters& counters = phase.typical();
    return {{"tokens", tokens},
            {"tokens_per_s", rate(tokens, median(phase.seconds))},
            {"slowest_tokens_per_s", rate(tokens, *std::ranges::max_element(phase.seconds))},
            {"fastest_tokens_per_s", rate(tokens, *std::ranges::min_element(phase.seconds))},
            {"seconds", phase.seconds},
            {"seconds_by_part", seconds_json(counters.seconds)},
            {"flops_by_part", flops_json(counters.flops)},
            {"indexer_passes", counters.indexer_passes}};
  }

  Json result(const Phase& prefill, const Phase& decode) const {
    const ModelInfo& info = engine_->info();
    return {{"context", row_.context},
            {"plan", name(row_.plan)},
            {"prefill", phase_json(prefill, options_.prefill_tokens)},
            {"decode", phase_json(decode, options_.decode_tokens)},
            {"rss_bytes", peak_rss_bytes()},
            {"cost_only", info.cost_only},
            {"fill", name(options_.fill)},
            {"kv_cache_dtype", info.kv_cache_dtype},
            {"index_cache_dtype", info.index_cache_dtype},
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

// "171.2 (168-173)": the median and the range of the repeats.
std::string rate_cell(const Json& phase) {
  const double slowest = phase["slowest_tokens_per_s"], fastest = phase["fastest_tokens_per_s"];
  const std::string middle = fmt::format("{:.1f}", phase["tokens_per_s"].get<double>());
  return phase["seconds"].size() == 1 ? middle : fmt::format("{} ({:.0f}-{:.0f})", middle, slowest, fastest);
}

std::vector<std::string> table_row(const Json& r) {
  const std::string plan = r["plan"].get<std::string>() + (r["cost_only"].get<bool>() ? " (cost only)" : "");
  const Json &prefill = r["prefill"], &decode = r["decode"];
  const int64_t passes = prefill["indexer_passes"].get<int64_t>() + decode["indexer_passes"].get<int64_t>();
  const double flops =
      prefill["flops_by_part"]["total"].get<double>() + decode["flops_by_part"]["total"].get<double>();
  return {with_commas(r["context"].get<int64_t>()),
          plan,
          rate_cell(prefill),
          rate_cell(decode),
          human_bytes(r["rss_bytes"].get<double>()),
          with_commas(passes),
          human_flops(flops)};
}

struct Part {
  const char *name, *seconds, *flops;  // of the table, keys of seconds_by_part and flops_by_part
};
constexpr Part kParts[] = {{"projections", "projections", "projections"},
                           {"indexer projections", "indexer_projections", "indexer_projections"},
                           {"index selection", "index_selection", "index_scores"},
                           {"attention", "attention", "attention"},
                           {"MLP", "mlp", "mlp"},
                           {"head", "head", "head"},
                           {"norms, sums, lookups", "other", nullptr}};

// Milliseconds a token and GFLOP/s of a part in one phase.
std::vector<std::string> part_cells(const Json& phase, const Part& part) {
  const double seconds = phase["seconds_by_part"][part.seconds];
  const double ms = 1e3 * seconds / phase["tokens"].get<double>();
  if (!part.flops || seconds <= 0) return {fmt::format("{:.4f}", ms), ""};
  return {fmt::format("{:.4f}", ms),
          fmt::format("{:.0f}", phase["flops_by_part"][part.flops].get<double>() / seconds * 1e-9)};
}

void print_breakdown(const Json& results) {
  for (const Json& r : results) {
    print(fmt::format("\ncontext {}, {}\n", with_commas(r["context"].get<int64_t>()),
                      r["plan"].get<std::string>()));
    std::vector<std::vector<std::string>> rows = {
        {"part", "prefill ms/token", "GFLOP/s", "decode ms/token", "GFLOP/s"}};
    for (const Part& part : kParts) {
      rows.push_back({part.name});
      for (const char* phase : {"prefill", "decode"})
        for (std::string& cell : part_cells(r[phase], part)) rows.back().push_back(std::move(cell));
    }
    print(table(rows, 1, TableStyle::markdown));
  }
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
                  "cache filled by {}; medians (and ranges) of {} runs.\n",
                  options.fill == Fill::random ? "random rows" : "a true prefill", options.repeat));
  if (cost_only) {
    print("cost only: the checkpoint has no indexers for its shared layers; they ran another layer's.\n");
  }
  if (options.breakdown) print_breakdown(results);
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

int run_drafts(const CLI::App& app, Options& options) {
  for (const char* flag : {"--plan", "--fill", "--prefill-tokens", "--breakdown"}) {
    if (app.get_option(flag)->count() > 0)
      throw UsageError(fmt::format("{} cannot stand beside --draft-tokens", flag));
  }
  if (options.drafts.draft_tokens == 0) throw UsageError("--prompt-file: needs --draft-tokens of at least 1");
  if (std::ranges::min(options.contexts) == 0)
    throw UsageError("--context: expected at least 1 with --draft-tokens, got 0");
  options.drafts.contexts = options.contexts;
  options.drafts.decode_tokens = options.decode_tokens;
  options.drafts.num_prompts = options.repeat;
  options.drafts.json = options.json;
  return run_draft_bench(options.drafts, options.engine);
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
  add_number<int64_t>(app, "--repeat", options->repeat, "Times each is measured", {1, 1000});
  app.add_flag("--breakdown", options->breakdown, "Also the time of each part of the forward pass");
  add_json_flag(app, options->json);
  add_draft_bench_flags(app, options->drafts);
  app.add_option_function<std::string>("--row",
                                       [options](const std::string& text) { options->row = parse_row(text); })
      ->group("");
  return [options, &app, plan = app.get_option("--plan")] {
    if (options->drafts.text_file) return run_drafts(app, *options);
    const bool dense = options->engine.options.attention == AttentionMode::dense;
    if (dense && plan->count() == 0) options->plans = Plans::shared;  // there is one way to see everything
    if (dense && options->plans != Plans::shared) {
      throw UsageError("--attention dense runs no indexer: expected --plan shared beside it");
    }
    return run(*options);
  };
}

}  // namespace indexshare::cli
