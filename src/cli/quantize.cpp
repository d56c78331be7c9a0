// SPDX-License-Identifier: Apache-2.0
// indexshare quantize: a model's weights in int8 or int4, written once as a checkpoint of its own, and how
// far its answers are from the original's.
#include "indexshare/quantize.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "agreement.h"
#include "exit_codes.h"
#include "flags.h"
#include "interrupt.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

struct Options {
  std::string model, out;
  QuantizeOptions quantize;
  EngineFlags engine;  // of the quantised model, where it is checked
  std::optional<std::string> check;
  int64_t ctx = 2048;
  bool json = false;
};

std::string describe(const QuantizeReport& report) {
  const auto row = [](const std::string& kind, const std::string& format, const std::string& count,
                      size_t before, size_t after, const std::string& error) -> std::vector<std::string> {
    return {kind,
            format,
            count,
            human_bytes(static_cast<double>(before)),
            human_bytes(static_cast<double>(after)),
            error};
  };
  std::vector<std::vector<std::string>> rows = {
      {"weights", "format", "number", "before", "after", "relative error"}};
  for (const QuantizedKind& kind : report.kinds)
    rows.push_back(row(kind.kind, kind.format.empty() ? "as stored" : kind.format,
                       with_commas(kind.num_weights), kind.bytes_before, kind.bytes_after,
                       kind.format.empty() ? "" : fmt::format("{:.3f} %", 100 * kind.relative_rms_error)));
  rows.push_back(row("all", "", "", report.bytes_before, report.bytes_after, ""));
  return table(rows, 2);
}

Json report_json(const QuantizeReport& report) {
  Json kinds = Json::array();
  for (const QuantizedKind& kind : report.kinds)
    kinds.push_back({{"kind", kind.kind},
                     {"format", kind.format.empty() ? "as_stored" : kind.format},
                     {"num_weights", kind.num_weights},
                     {"bytes_before", kind.bytes_before},
                     {"bytes_after", kind.bytes_after},
                     {"relative_rms_error", kind.relative_rms_error}});
  return {{"bytes_before", report.bytes_before}, {"bytes_after", report.bytes_after}, {"kinds", kinds}};
}

Json agreement_json(const Agreement& a) {
  return {{"scored_tokens", a.scored_tokens},
          {"original_perplexity", a.reference_perplexity()},
          {"perplexity", a.perplexity()},
          {"kl_divergence", a.kl_divergence},
          {"kl_divergence_uncertainty", a.kl_standard_error},
          {"same_top_token", a.same_top_token}};
}

std::string describe(const Agreement& a, const ModelInfo& info) {
  return fmt::format(
      "\nover {} tokens, against the original computed in f32 ({} weights, {}-bit activations, latents in "
      "{}, index "
      "keys in {}):\n"
      "perplexity {:.4f}, the original's {:.4f}; KL divergence {:.6f} +/- {:.6f} nats a token; the same "
      "likeliest "
      "token for {:.2f} %\n",
      with_commas(a.scored_tokens), info.weights, info.activation_bits, info.kv_cache_dtype,
      info.index_cache_dtype, a.perplexity(), a.reference_perplexity(), a.kl_divergence, a.kl_standard_error,
      100 * a.same_top_token);
}

// The original without any rounding of ours beside the new model as it would be used.
Agreement check(const Options& options, const std::string& text, ModelInfo& info) {
  EngineFlags original = options.engine, quantised = options.engine;
  original.options.kv_cache_dtype = original.options.index_cache_dtype = "f32";
  original.options.activation_bits = 32;
  original.model = options.model, quantised.model = options.out;
  original.options.ctx_size = quantised.options.ctx_size = options.ctx;
  const bool loud = !options.json && !options.engine.quiet;
  original.notes = quantised.notes = false;
  const auto reference = load_engine(original, loud), engine = load_engine(quantised, loud);
  const Tokenizer& tokenizer = reference->tokenizer();
  const std::vector<int32_t> tokens =
      tokenizer.with_special_tokens(tokenizer.encode(text, SpecialTokens::as_text));
  if (tokens.size() < 2)
    throw UsageError(fmt::format("--check: the text has {} tokens, expected at least 2", tokens.size()));
  ProgressBar bar("comparing", loud);
  info = engine->info();
  return compare_engines(*reference, *engine, tokens, options.ctx, [&](int64_t done, int64_t total) {
    throw_if_interrupted();
    bar.update(done, total);
  });
}

int run(Options options) {
  const InterruptScope scope;  // an interrupted run leaves nothing behind
  const std::optional<std::string> text =
      options.check ? std::optional(read_nonempty_file("--check", *options.check)) : std::nullopt;
  QuantizeReport report;
  {
    ProgressBar bar("quantising", !options.json && !options.engine.quiet, ProgressUnit::bytes);
    options.quantize.threads = options.engine.options.threads;
    options.quantize.progress = [&](int64_t done, int64_t total) {
      throw_if_interrupted();
      bar.update(done, total);
    };
    report = quantize_model(options.model, options.out, options.quantize);
  }
  if (!options.json) print(describe(report));
  Json json;
  if (options.json) {
    json["schema_version"] = kSchemaVersion;
    json["weights"] = options.quantize.weights;
    json.update(report_json(report));
  }
  if (text) {
    ModelInfo info;
    const Agreement agreement = check(options, *text, info);
    if (options.json)
      json["check"] = agreement_json(agreement);
    else
      print(describe(agreement, info));
  }
  if (options.json) print_json(json);
  return kOk;
}

}  // namespace

Action add_quantize(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.footer(
      "OUT is a model directory in compressed-tensors' pack-quantized layout; it appears complete or not at "
      "all.\n"
      "int8 has one scale for 128 columns, int4 one for 64; with int4 the indexers and the head are int8. "
      "The\n"
      "router, norms, embeddings and kv_b_proj (quantised while loading) stay as they are.");
  add_model_argument(app, options->model,
                     "Directory in Hugging Face's format, or org/name in the local HF cache");
  app.add_option("OUT,-o,--out", options->out, "Directory to write; its parent must exist")
      ->required()
      ->type_name("");
  add_choice<std::string>(app, "--weights", options->quantize.weights, "Format of the weights",
                          {{"int8", "int8"}, {"int4", "int4"}});
  app.add_flag("--force", options->quantize.replace, "Replace a model that stands at OUT");
  EngineOptions& engine = options->engine.options;
  add_number(app, "-t,--threads", engine.threads, "Threads (0: what affinity and cgroup allow)", {0, 4096});
  add_json_flag(app, options->json);
  app.add_flag("-q,--quiet", options->engine.quiet, "No progress on stderr");
  const FlagGroup group(app, "Comparing the new model with the original");
  CLI::Option* check =
      app.add_option("--check", options->check,
                     "Text (-: standard input) over which their answers are compared: perplexity of "
                     "both, KL divergence, the same likeliest token")
          ->type_name("FILE");
  add_number<int64_t>(app, "--ctx", options->ctx, "Tokens of a window", {2, INT32_MAX});
  add_cache_flags(app, engine, kEngineCacheDefaults);
  add_activation_flag(app, engine);
  add_choice<std::string>(app, "--backend", engine.backend, "What computes",
                          {{"cpu", "cpu"}, {"reference", "reference"}, {"cuda", "cuda"}});
  for (const char* flag :
       {"--ctx", "--kv-cache-dtype", "--index-cache-dtype", "--activation-bits", "--backend"})
    app.get_option(flag)->needs(check);
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
