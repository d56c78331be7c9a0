// SPDX-License-Identifier: Apache-2.0
// indexshare analyze: what sharing changes on a text of one's own, and which layers had best share.
#include <fmt/format.h>

#include <memory>

#include "analyze.h"
#include "exit_codes.h"
#include "interrupt.h"
#include "output_file.h"
#include "progress.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

constexpr int64_t kPageSlack = 64;  // a sequence's last page may be empty but for one row

// The arguments as a shell would take them again.
std::string quoted_command(const std::vector<std::string>& arguments) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./,:=+@%";
  std::string command = "indexshare analyze";
  for (const std::string& argument : arguments) {
    command += ' ';
    if (!argument.empty() && argument.find_first_not_of(kPlain) == std::string::npos) {
      command += argument;
      continue;
    }
    command += '\'';
    for (const char c : argument) command += c == '\'' ? std::string("'\\''") : std::string(1, c);
    command += '\'';
  }
  return command;
}

void refuse_misfits(const AnalyzeOptions& o) {
  if (o.engine.options.attention == AttentionMode::dense)
    throw UsageError("--attention dense selects nothing that could be analyzed");
  if (o.needle && o.plant)
    throw UsageError("--needle finds what the text says, --plant adds to it: give one");
  const bool looks = o.needle || o.plant || o.question || o.html || o.no_dense;
  if (o.search > 0 && looks)
    throw UsageError("--search: --needle, --plant, --question, --html and --no-dense belong to the analysis");
  if (o.search == 0 && (o.state || o.windows != 1 || o.tail_rows != 0))
    throw UsageError("--state, --windows and --tail-rows belong to --search");
  if (o.needle_rows > 1 && !o.needle && !o.plant) throw UsageError("--needle-rows needs --needle or --plant");
}

bool has_all_indexers(const ModelSummary& summary) {
  return summary.index_topk > 0 && std::ssize(layers_with_indexers(summary)) == summary.num_layers;
}

std::unique_ptr<Engine> load(const AnalyzeOptions& options, const ModelSummary& summary, int64_t positions) {
  EngineFlags flags = options.engine;
  flags.options.plan = has_all_indexers(summary) ? PlanChoice::every_layer : PlanChoice::shared;
  if (flags.options.ctx_size == 0) flags.options.ctx_size = positions;
  return load_engine(flags, !options.json);
}

int analyze(const AnalyzeOptions& options, const ModelSummary& summary, const Tokenizer& tokenizer,
            const std::string& directory) {
  const AnalyzedText text = read_analyzed_text(options, tokenizer, directory);
  const auto num_tokens = static_cast<int64_t>(text.tokens.size());
  const auto engine = load(options, summary, 3 * (num_tokens + kPageSlack));

  const InterruptScope scope;
  ProgressBar bar("analyzing", !options.engine.quiet && !options.json);
  SharingOptions sharing{.pattern = summary.pattern,
                         .num_rows = options.rows,
                         .needle = text.needle_at,
                         .needle_rows = options.needle_rows,
                         .dense = !options.no_dense};
  sharing.progress = [&](int64_t done, int64_t total) {
    throw_if_interrupted();
    bar.update(done, total);
  };
  const SharingReport report = analyze_sharing(*engine, text.tokens, sharing);
  bar.wipe();
  const AnalyzedModel model{engine->info(), text.needle};
  if (options.html) write_file(*options.html, report_html(report, model, options));
  if (options.json)
    print_json(report_json(report, model));
  else
    print(report_text(report, model));
  return kOk;
}

int search(const AnalyzeOptions& options, const ModelSummary& summary, const Tokenizer& tokenizer) {
  if (!has_all_indexers(summary)) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: --search tries indexers in every layer, {} of {} layers have one",
                            summary.path, layers_with_indexers(summary).size(), summary.num_layers));
  }
  if (options.search >= summary.num_layers) {
    throw UsageError(fmt::format("--search: expected at most {}, as layer 0 stays full, got {}",
                                 summary.num_layers - 1, options.search));
  }
  const auto windows = read_windows(options, tokenizer);
  int64_t longest = 0, kept = 0;
  for (const auto& window : windows) {
    const auto length = static_cast<int64_t>(window.size());
    longest = std::max(longest, length);
    kept += (options.tail_rows > 0 ? length : 0) + summary.index_topk + 2 * kPageSlack;
  }
  const auto engine = load(options, summary, kept + longest + 2 * kPageSlack);
  return run_search(options, *engine, windows, summary.pattern);
}

int run(const AnalyzeOptions& options) {
  refuse_misfits(options);
  if (options.html) check_writable(*options.html);
  InspectOptions inspect;
  inspect.hf_overrides =
      merged_overrides(options.engine.options.hf_overrides, options.engine.pattern, options.engine.model);
  const ModelSummary summary = inspect_model(options.engine.model, inspect);
  const std::string directory = model_directory(options.engine.model).string();
  const Tokenizer tokenizer = Tokenizer::load(directory);
  return options.search > 0 ? search(options, summary, tokenizer)
                            : analyze(options, summary, tokenizer, directory);
}

void add_analysis_flags(CLI::App& app, AnalyzeOptions& options) {
  const FlagGroup group(app, "Analysis");
  add_number<int64_t>(app, "--rows", options.rows, "Query rows whose selections and attention are compared",
                      {1, INT32_MAX});
  app.add_option("--needle", options.needle, "A passage of the text: is it selected in the last row?")
      ->type_name("TEXT");
  app.add_option("--plant", options.plant, "A line to add to the text, then looked for as by --needle")
      ->type_name("TEXT");
  add_number<double>(app, "--needle-depth", options.needle_depth, "Where --plant goes: 0 first, 1 last",
                     {0, 1});
  app.add_option("--question", options.question,
                 "Asked behind the text, by the chat template where there is one")
      ->type_name("TEXT");
  add_number<int64_t>(app, "--needle-rows", options.needle_rows,
                      "Last rows in which the needle is looked for", {1, INT32_MAX});
  app.add_flag("--no-dense", options.no_dense,
               "Leave out the comparison with dense attention, quadratic in the length");
  app.add_option("--html", options.html, "Write the report as one HTML file too")->type_name("FILE");
}

void add_search_flags(CLI::App& app, AnalyzeOptions& options) {
  const FlagGroup group(app, "Search for a plan");
  add_number<int>(app, "--search", options.search,
                  "Find N layers to share, one by one the one that raises the loss least (0: analyze)",
                  {0, 1 << 20});
  add_number<int64_t>(app, "--windows", options.windows, "Windows of --context tokens to calibrate on",
                      {1, 1 << 20});
  add_number<int64_t>(
      app, "--tail-rows", options.tail_rows,
      "Run only the last N rows of a window under each candidate: faster, approximate (0: all)",
      {0, INT32_MAX});
  app.add_option("--state", options.state, "Keep what was measured in this file, and go on from it")
      ->type_name("FILE");
}

}  // namespace

Action add_analyze(CLI::App& app, const std::vector<std::string>& arguments) {
  const auto options = std::make_shared<AnalyzeOptions>();
  options->command = quoted_command(arguments);
  app.footer(
      "overlap: share of the k positions that two layers' selections have in common. covered: share of the\n"
      "dense attention probability that a selection holds. KL: of next-token distributions, in nats. Own\n"
      "selections need an indexer in every layer; where a checkpoint lacks some, full layers alone are "
      "compared.");
  add_engine_flags(app, options->engine, /*with_plan=*/false);
  app.add_option("--text", options->text_file, "The text to read (-: standard input)")
      ->required()
      ->type_name("FILE");
  add_number<int64_t>(app, "--context", options->context, "Tokens of the text to read", {2, INT32_MAX});
  add_json_flag(app, options->json);
  add_analysis_flags(app, *options);
  add_search_flags(app, *options);
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
