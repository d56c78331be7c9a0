// SPDX-License-Identifier: Apache-2.0
// indexshare logits: every position's logits of a token sequence, f32 [num_tokens, vocab_size], row by row to
// disk.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "drafts.h"
#include "exit_codes.h"
#include "indexshare/engine.h"
#include "interrupt.h"
#include "npy.h"
#include "options.h"
#include "progress.h"
#include "selections.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

struct Options {
  EngineFlags engine;
  std::string tokens, output;
  std::string dump_selections, force_selections, draft_output;
  bool json = false;
};

std::vector<int32_t> read_tokens(const std::string& path) {
  std::vector<int32_t> tokens = read_int_npy(path, 1).values;
  if (tokens.empty()) throw UsageError(path + ": holds no tokens");
  return tokens;
}

void check_tokens(const std::string& path, const std::vector<int32_t>& tokens, int64_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab_size) {
      throw UsageError(
          fmt::format("{}: element {} is {}, expected 0 to {}", path, i, tokens[i], vocab_size - 1));
    }
  }
}

bool uses_selections(const Options& options) {
  return !options.dump_selections.empty() || !options.force_selections.empty();
}

[[noreturn]] void refuse_selections(const Options& options, const std::string& reason) {
  const char* flag = options.dump_selections.empty() ? "--force-selections" : "--dump-selections";
  throw UsageError(fmt::format("{}: {}", flag, reason));
}

int run(const Options& options) {
  if (uses_selections(options) && options.engine.options.attention == AttentionMode::dense) {
    refuse_selections(options, "--attention dense selects no positions");
  }
  if (!options.draft_output.empty() && options.engine.options.draft_tokens == 0) {
    throw UsageError("--draft-output: needs --draft-tokens of at least 1");
  }
  const std::vector<int32_t> tokens = read_tokens(options.tokens);
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  const auto engine = load_engine(options.engine, !options.json);
  const ModelInfo& info = engine->info();
  check_tokens(options.tokens, tokens, info.vocab_size);
  if (uses_selections(options) && info.full_layers.empty()) {
    refuse_selections(options, "no layer of this model has an indexer");
  }

  const auto num_full = static_cast<int64_t>(info.full_layers.size());
  std::optional<SelectionDump> dump;
  std::optional<ForcedSelections> forced;
  if (!options.dump_selections.empty()) dump.emplace(options.dump_selections, num_full, num_tokens);
  if (!options.force_selections.empty()) forced.emplace(options.force_selections, num_full, num_tokens);
  NpyWriter output(options.output, "<f4", {num_tokens, info.vocab_size});
  std::optional<NpyWriter> drafts;
  if (!options.draft_output.empty())
    drafts.emplace(options.draft_output, "<f4", std::vector{info.draft_tokens, num_tokens, info.vocab_size});

  const InterruptScope scope;
  ProgressBar bar("evaluating", !options.engine.quiet && !options.json);
  EvaluateOptions evaluate;
  evaluate.sink = [&](int64_t, std::span<const float> row) { output.append(row.data(), row.size()); };
  evaluate.selection_hook =
      make_selection_hook(info.full_layers, dump ? &*dump : nullptr, forced ? &*forced : nullptr);
  if (drafts) {
    evaluate.draft_sink = [&](int64_t position, int64_t step, std::span<const float> row) {
      drafts->write_at(((step - 1) * num_tokens + position) * info.vocab_size, row.data(), row.size());
    };
  }
  evaluate.progress = [&](int64_t done, int64_t total) {
    throw_if_interrupted();
    bar.update(done, total);
  };
  const Stopwatch watch;
  engine->evaluate(engine->create_sequence(), tokens, evaluate);
  const double seconds = watch.seconds();
  bar.wipe();
  if (dump) dump->commit();
  if (drafts) {
    const std::vector<float> none(static_cast<size_t>(info.vocab_size));
    for (int64_t step = 1; step <= info.draft_tokens; ++step)
      for (int64_t position = std::max<int64_t>(num_tokens - step, 0); position < num_tokens; ++position)
        drafts->write_at(((step - 1) * num_tokens + position) * info.vocab_size, none.data(), none.size());
    drafts->commit();
  }
  output.commit();
  if (options.json) {
    print_json({{"schema_version", kSchemaVersion},
                {"tokens", num_tokens},
                {"vocab_size", info.vocab_size},
                {"seconds", seconds},
                {"peak_rss_bytes", peak_rss_bytes()}});
  }
  return kOk;
}

}  // namespace

Action add_logits(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  EngineOptions& exact = options->engine.options;  // what is compared should not be rounded
  exact.kv_cache_dtype = exact.index_cache_dtype = "f32";
  exact.activation_bits = 32;
  add_engine_flags(app, options->engine);
  app.add_option("--tokens", options->tokens, "Token ids: .npy, one dimension, any integer type")
      ->required()
      ->type_name("FILE");
  app.add_option("--output,-o", options->output, "Logits: .npy, f32 [num_tokens, vocab_size]")
      ->required()
      ->type_name("FILE");
  app.add_option("--dump-selections", options->dump_selections,
                 "Write what each full layer selects: .npy, int32 [num_full_layers, num_tokens, width]")
      ->type_name("FILE");
  app.add_option("--force-selections", options->force_selections,
                 "Attend these positions instead: the same format, ascending, -1 padded")
      ->type_name("FILE");
  add_draft_flags(app, options->engine.options);
  app.add_option(
         "--draft-output", options->draft_output,
         "Logits of the rounds of drafts that begin at each token and are fed with those that follow: "
         ".npy, f32 [draft_tokens, num_tokens, vocab_size], 0 where none follows")
      ->type_name("FILE")
      ->needs(app.get_option("--draft-tokens"));
  app.get_option("--draft-tokens")->needs(app.get_option("--draft-output"));
  add_json_flag(app, options->json);
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
