// SPDX-License-Identifier: Apache-2.0
// indexshare inspect: what a checkpoint is and what sharing saves, from its config.json alone.
#include <fmt/format.h>

#include <memory>

#include "exit_codes.h"
#include "flags.h"
#include "indexshare/analysis.h"
#include "options.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

struct Options {
  std::string model;
  EngineOptions config;  // its --hf-overrides and the formats of the caches
  PatternFlags pattern;
  std::vector<int64_t> contexts = {4096, 131072, 1048576};
  bool json = false;
};

Json cost_json(const PlanCost& cost) {
  return {{"every_layer", cost.every_layer}, {"shared", cost.shared}, {"ratio", cost.ratio()}};
}

Json costs_json(const std::vector<ContextCost>& costs) {
  Json list = Json::array();
  for (const ContextCost& cost : costs) {
    list.push_back({{"context", cost.context},
                    {"decode", cost_json(cost.decode)},
                    {"prefill", cost_json(cost.prefill)}});
  }
  return list;
}

Json weights_json(const WeightSummary& weights) {
  return {{"num_tensors", weights.num_tensors},
          {"bytes", weights.bytes},
          {"bytes_by_format", weights.bytes_by_format},
          {"surplus_indexer_layers", weights.surplus_indexer_layers},
          {"surplus_indexer_tensors", weights.surplus_indexer_tensors},
          {"missing_tensors", weights.missing_tensors}};
}

Json cache_bytes_json(const CacheBytes& bytes) {
  return {{"mla", bytes.mla},
          {"index_keys", bytes.index_keys},
          {"index_keys_every_layer", bytes.index_keys_every_layer}};
}

// null where no pattern is in force.
Json fixed_pattern_json(const FixedPattern& p) {
  if (!p.active()) return nullptr;
  return {{"window", p.window},         {"sinks", p.sinks},
          {"stride", p.stride},         {"stride_phase", p.stride_phase},
          {"stride_cap", p.stride_cap}, {"mode", p.mode == FixedPattern::Mode::fill ? "fill" : "union"}};
}

Json summary_json(const ModelSummary& s) {
  const CacheBytes& bytes = s.cache_bytes_per_token;
  Json json;
  json["schema_version"] = kSchemaVersion;
  json["path"] = s.path;
  json["family"] = s.family;
  json["weights_dtype"] = s.weights_dtype;
  json["num_layers"] = s.num_layers;
  json["num_mtp_layers"] = s.num_mtp_layers;
  json["num_moe_layers"] = s.num_moe_layers;
  json["num_experts"] = s.num_experts;
  json["experts_per_token"] = s.experts_per_token;
  json["vocab_size"] = s.vocab_size;
  json["hidden_size"] = s.hidden_dim;
  json["num_heads"] = s.num_heads;
  json["max_positions"] = s.max_positions;
  json["index_topk"] = s.index_topk;
  json["index_heads"] = s.index_heads;
  json["index_head_dim"] = s.index_head_dim;
  json["index_fixed_pattern"] = fixed_pattern_json(s.fixed_pattern);
  json["parameters"] = {
      {"total", s.parameters.total}, {"active", s.parameters.active}, {"mtp", s.parameters.mtp}};
  json["full_layers"] = s.full_layers;
  json["source"] = s.source;
  json["pattern"] = s.pattern;
  json["kv_cache_dtype"] = s.kv_cache_dtype;
  json["index_cache_dtype"] = s.index_cache_dtype;
  json["cache_bytes_per_token"] = cache_bytes_json(bytes);
  for (const auto& [format, in_format] : s.cache_bytes_by_format)
    json["cache_bytes_per_token_by_dtype"][format] = cache_bytes_json(in_format);
  json["mtp_cache_bytes_per_token"] = {{"mla", bytes.mtp_mla}, {"index_keys", bytes.mtp_index_keys}};
  json["flops"] = costs_json(s.flops);
  json["flops_absorbed"] = costs_json(s.flops_absorbed);
  if (s.weights) json["weights"] = weights_json(*s.weights);
  json["notes"] = s.notes;
  return json;
}

// 744 B: parameters are counted in billions, not in giga.
std::string human_count(double count) {
  if (count >= 1e9) return fmt::format("{:.1f} B", count / 1e9);
  if (count >= 1e6) return fmt::format("{:.1f} M", count / 1e6);
  return with_commas(static_cast<int64_t>(count));
}

std::string describe_fixed_pattern(const FixedPattern& p) {
  std::vector<std::string> parts;
  if (p.window > 0) parts.push_back("last " + with_commas(p.window));
  if (p.sinks > 0) parts.push_back("first " + with_commas(p.sinks));
  if (p.stride > 0) {
    const std::string latest = p.stride_cap > 0 ? fmt::format(" (latest {})", with_commas(p.stride_cap)) : "";
    parts.push_back(fmt::format("one in every {} from {}{}", p.stride, p.stride_phase, latest));
  }
  const bool fill = p.mode == FixedPattern::Mode::fill;
  return fmt::format("always attended: {}; top-k {}", fmt::join(parts, ", "),
                     fill ? "among the others (fill)" : "among all (union)");
}

std::string describe_model(const ModelSummary& s) {
  std::string layers = fmt::format("{}", s.num_layers);
  if (s.num_moe_layers > 0) {
    layers += fmt::format(", {} of them with {} experts, {} a token", s.num_moe_layers, s.num_experts,
                          s.experts_per_token);
  }
  if (s.num_mtp_layers > 0) layers += fmt::format("; {} more to draft with (MTP)", s.num_mtp_layers);
  const ParameterCounts& p = s.parameters;
  std::vector<std::vector<std::string>> rows = {
      {"config", s.path},
      {"family", fmt::format("{}, {} weights", s.family, s.weights_dtype)},
      {"layers", layers},
      {"parameters",
       fmt::format("{}, {} of them active for a token", human_count(static_cast<double>(p.total)),
                   human_count(static_cast<double>(p.active)))},
      {"width", fmt::format("{} hidden, {} heads, vocabulary of {}", with_commas(s.hidden_dim), s.num_heads,
                            with_commas(s.vocab_size))},
      {"positions", with_commas(s.max_positions)},
      {"selection", fmt::format("{} positions, by {} index heads of {}", with_commas(s.index_topk),
                                s.index_heads, s.index_head_dim)}};
  if (s.fixed_pattern.active()) rows.push_back({"fixed pattern", describe_fixed_pattern(s.fixed_pattern)});
  if (s.weights) {
    std::vector<std::string> formats;
    for (const auto& [format, bytes] : s.weights->bytes_by_format)
      formats.push_back(human_bytes(static_cast<double>(bytes)) + " " + format);
    rows.push_back(
        {"weights",
         fmt::format("{} in {} tensors: {}", human_bytes(static_cast<double>(s.weights->bytes)),
                     with_commas(static_cast<int64_t>(s.weights->num_tensors)), fmt::join(formats, ", "))});
  }
  return table(rows, 2);
}

std::string describe_plan(const ModelSummary& s) {
  constexpr size_t kLettersPerLine = 64;
  std::string text =
      fmt::format("\nshare plan: {} full layers run an indexer, {} shared layers reuse its selection\n",
                  s.full_layers.size(), s.source.size() - s.full_layers.size());
  for (size_t i = 0; i < s.pattern.size(); i += kLettersPerLine) {
    text += "  " + s.pattern.substr(i, kLettersPerLine) + "\n";
  }
  return text + fmt::format("  full: {}\n", s.full_layers.empty()
                                                ? "none"
                                                : fmt::format("{}", fmt::join(s.full_layers, " ")));
}

std::string saved(double every_layer, double shared) {
  return every_layer > 0 ? fmt::format("{:.0f} %", 100 * (1 - shared / every_layer)) : "";
}

std::string describe_caches(const ModelSummary& s) {
  const CacheBytes& bytes = s.cache_bytes_per_token;
  const auto row = [](const std::string& label, const CacheBytes& b) -> std::vector<std::string> {
    return {label, with_commas(b.mla), with_commas(b.index_keys), with_commas(b.index_keys_every_layer),
            saved(static_cast<double>(b.index_keys_every_layer), static_cast<double>(b.index_keys))};
  };
  std::vector<std::vector<std::string>> rows = {
      {"", "latent rows", "index keys", "index keys, every layer", "saved"}};
  for (const auto& [format, in_format] : s.cache_bytes_by_format)
    rows.push_back(row("bytes a token in " + format, in_format));
  for (const ContextCost& cost : s.flops) {
    const auto at_length = [&](int64_t b) {
      return human_bytes(static_cast<double>(b) * static_cast<double>(cost.context));
    };
    rows.push_back({with_commas(cost.context) + " tokens", at_length(bytes.mla), at_length(bytes.index_keys),
                    at_length(bytes.index_keys_every_layer), ""});
  }
  std::string text = fmt::format("\ncaches; lengths with latents in {} and index keys in {}\n",
                                 s.kv_cache_dtype, s.index_cache_dtype) +
                     table(rows);
  if (s.num_mtp_layers > 0) {
    text += fmt::format("MTP apart: {} bytes a token of latent rows, {} of index keys\n",
                        with_commas(bytes.mtp_mla), with_commas(bytes.mtp_index_keys));
  }
  return text;
}

std::string describe_flops(const std::vector<ContextCost>& costs, const std::string& form) {
  std::vector<std::vector<std::string>> rows = {
      {"context", "decode: every layer", "shared", "ratio", "prefill: every layer", "shared", "ratio"}};
  for (const ContextCost& cost : costs) {
    std::vector<std::string> row = {with_commas(cost.context)};
    for (const PlanCost& plan : {cost.decode, cost.prefill}) {
      row.push_back(human_flops(plan.every_layer));
      row.push_back(human_flops(plan.shared));
      row.push_back(fmt::format("{:.2f}", plan.ratio()));
    }
    rows.push_back(row);
  }
  return fmt::format("\nFLOPs of one decoded token and of a whole prompt, {}\n", form) + table(rows, 0);
}

int run(const Options& options) {
  InspectOptions inspect;
  inspect.hf_overrides = merged_overrides(options.config.hf_overrides, options.pattern, options.model);
  inspect.kv_cache_dtype = options.config.kv_cache_dtype;
  inspect.index_cache_dtype = options.config.index_cache_dtype;
  inspect.contexts = options.contexts;
  const ModelSummary summary = inspect_model(options.model, inspect);
  if (options.json) {
    print_json(summary_json(summary));
    return kOk;
  }
  print(describe_model(summary) + describe_plan(summary) + describe_caches(summary) +
        describe_flops(summary.flops, "attention as published") +
        describe_flops(summary.flops_absorbed, "attention over latents, as this engine runs it"));
  if (!summary.notes.empty()) print("\n");
  for (const std::string& note : summary.notes) print("note: " + note + "\n");
  return kOk;
}

}  // namespace

Action add_inspect(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_model_argument(app, options->model, "Directory, config.json, or org/name in the local HF cache");
  add_number_list(app, "--context", options->contexts, "Lengths to cost, separated by commas",
                  {1, std::numeric_limits<int32_t>::max()});
  options->config.kv_cache_dtype = InspectOptions{}.kv_cache_dtype;
  options->config.index_cache_dtype = InspectOptions{}.index_cache_dtype;
  add_config_flags(app, options->config, {"bf16", "as the latents"});
  add_pattern_flags(app, options->pattern);
  add_json_flag(app, options->json);
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
