// SPDX-License-Identifier: Apache-2.0
// indexshare analyze --search: the search with its progress and its state file, which is rewritten after each
// candidate so that an interrupted search goes on where it was.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "analyze.h"
#include "exit_codes.h"
#include "interrupt.h"
#include "output_file.h"
#include "progress.h"

namespace indexshare::cli {
namespace {

constexpr const char* kStateKind = "indexshare plan search";

// FNV-1a: tells texts apart, nothing more.
std::string hash_of(const std::vector<std::vector<int32_t>>& windows) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
  for (const auto& window : windows) {
    mix(window.size());
    for (const int32_t token : window) mix(static_cast<uint64_t>(token));
  }
  return fmt::format("{:016x}", hash);
}

// What a state belongs to. That the weights are the same, the search itself finds out by their loss.
Json state_origin(const AnalyzeOptions& options, const ModelInfo& info,
                  const std::vector<std::vector<int32_t>>& windows) {
  return {{"kind", kStateKind},
          {"schema_version", kSchemaVersion},
          {"family", info.family},
          {"num_layers", info.num_layers},
          {"index_topk", info.index_topk},
          {"vocab_size", info.vocab_size},
          {"kv_cache_dtype", info.kv_cache_dtype},
          {"index_cache_dtype", info.index_cache_dtype},
          {"context", options.context},
          {"windows", options.windows},
          {"tail_rows", options.tail_rows},
          {"text_hash", hash_of(windows)}};
}

Json candidates_json(const std::vector<CandidateLoss>& candidates) {
  Json list = Json::array();
  for (const CandidateLoss& c : candidates) list.push_back({{"layer", c.layer}, {"loss", c.loss}});
  return list;
}

std::vector<CandidateLoss> candidates_from(const Json& list) {
  std::vector<CandidateLoss> candidates;
  for (const Json& c : list) candidates.push_back({c.at("layer").get<int>(), c.at("loss").get<double>()});
  return candidates;
}

Json steps_json(const std::vector<PlanSearchStep>& steps) {
  Json list = Json::array();
  for (const PlanSearchStep& step : steps) {
    list.push_back({{"layer", step.layer},
                    {"pattern", step.pattern},
                    {"loss", step.loss},
                    {"candidates", candidates_json(step.candidates)}});
  }
  return list;
}

class StateFile {
 public:
  StateFile(std::string path, Json origin) : path_(std::move(path)), origin_(std::move(origin)) {}

  /// An empty state where there is no file. @throws UsageError naming the field that does not fit.
  PlanSearchState read() const {
    if (!std::filesystem::exists(path_)) {
      check_writable(path_);
      return {};
    }
    const Json file = Json::parse(read_file(path_), nullptr, /*allow_exceptions=*/false);
    if (!file.is_object()) throw UsageError(fmt::format("{}: expected a JSON object", path_));
    for (const auto& [field, expected] : origin_.items()) {
      const Json found = file.value(field, Json());
      if (found != expected) {
        throw UsageError(fmt::format("{}: {}: expected {} as in this search, found {}", path_, field,
                                     expected.dump(), found.dump()));
      }
    }
    try {
      return parse(file);
    } catch (const Json::exception&) {
      throw UsageError(fmt::format("{}: expected the state of a search, found other fields in it", path_));
    }
  }

  void write(const PlanSearchState& state) const {
    Json file = origin_;
    file["every_layer_loss"] = state.every_layer_loss;
    file["steps"] = steps_json(state.steps);
    file["pending"] = candidates_json(state.pending);
    write_file(path_, file.dump(1) + "\n");
  }

 private:
  static PlanSearchState parse(const Json& file) {
    PlanSearchState state{.every_layer_loss = file.at("every_layer_loss").get<double>()};
    for (const Json& step : file.at("steps")) {
      state.steps.push_back({.pattern = step.at("pattern").get<std::string>(),
                             .layer = step.at("layer").get<int>(),
                             .loss = step.at("loss").get<double>(),
                             .candidates = candidates_from(step.at("candidates"))});
    }
    state.pending = candidates_from(file.at("pending"));
    return state;
  }

  std::string path_;
  Json origin_;
};

/// The steps as they are found, a line each.
class StepPrinter {
 public:
  explicit StepPrinter(bool wanted) : wanted_(wanted) {}

  void print_new(const PlanSearchState& state, size_t num_steps, ProgressBar& bar) {
    if (!wanted_) return;
    const size_t until = std::min(state.steps.size(), num_steps);
    if (started_ && printed_ == until) return;
    bar.wipe();
    if (!started_) {
      print(fmt::format("{:>4}  {:>5}  {:>9}  {:>9}  pattern\n", "step", "layer", "loss", "rise"));
      print_line(0, "", state.every_layer_loss, state.every_layer_loss,
                 std::string(state.steps.empty() ? 0 : state.steps[0].pattern.size(), 'F'));
      started_ = true;
    }
    for (; printed_ < until; ++printed_) {
      const PlanSearchStep& step = state.steps[printed_];
      print_line(printed_ + 1, std::to_string(step.layer), step.loss, state.every_layer_loss, step.pattern);
    }
  }

 private:
  static void print_line(size_t step, const std::string& layer, double loss, double base,
                         const std::string& pattern) {
    print(fmt::format("{:>4}  {:>5}  {:>9.5f}  {:>+9.5f}  {}\n", step, layer, loss, loss - base,
                      pattern.empty() ? "an indexer in every layer" : pattern));
  }

  bool wanted_, started_ = false;
  size_t printed_ = 0;
};

std::string overrides_flag(const std::string& pattern) {
  return fmt::format("--hf-overrides '{{\"index_topk_pattern\":\"{}\"}}'", pattern);
}

std::string describe(const PlanSearchResult& result, const AnalyzeOptions& options) {
  std::vector<std::vector<std::string>> rows = {{"plan", "pattern", "full", "loss", "rise"}};
  for (const PlanLoss& plan : result.comparisons) {
    const auto num_full = std::count(plan.pattern.begin(), plan.pattern.end(), 'F');
    rows.push_back({plan.name, plan.pattern, std::to_string(num_full), fmt::format("{:.5f}", plan.loss),
                    fmt::format("{:+.5f}", plan.loss - result.state.every_layer_loss)});
  }
  std::string text = "\n" + table(rows, 2);
  text += fmt::format("\nlosses in nats a token over {} tokens", with_commas(result.scored_tokens));
  if (options.tail_rows > 0) {
    text += fmt::format(
        "; those of the steps are approximate: only the last {} rows of a window ran under the candidate,\n"
        "behind rows that ran under the plan of the step before",
        with_commas(options.tail_rows));
  }
  return text + "\n\n" + overrides_flag(result.pattern) + "\n";
}

Json result_json(const PlanSearchResult& result, const AnalyzeOptions& options, const ModelInfo& info) {
  Json plans = Json::array();
  for (const PlanLoss& plan : result.comparisons)
    plans.push_back({{"plan", plan.name}, {"pattern", plan.pattern}, {"loss", plan.loss}});
  Json json;
  json["schema_version"] = kSchemaVersion;
  json["model"] = info.directory;
  json["num_layers"] = info.num_layers;
  json["index_topk"] = info.index_topk;
  json["context"] = options.context;
  json["windows"] = options.windows;
  json["tail_rows"] = options.tail_rows;
  json["steps_are_exact"] = options.tail_rows == 0;
  json["scored_tokens"] = result.scored_tokens;
  json["every_layer_loss"] = result.state.every_layer_loss;
  json["steps"] = steps_json(result.state.steps);
  json["plans"] = plans;
  json["pattern"] = result.pattern;
  json["hf_overrides"] = {{"index_topk_pattern", result.pattern}};
  return json;
}

}  // namespace

int run_search(const AnalyzeOptions& options, Engine& engine,
               const std::vector<std::vector<int32_t>>& windows, const std::string& own_plan) {
  std::optional<StateFile> file;
  if (options.state) file.emplace(*options.state, state_origin(options, engine.info(), windows));
  PlanSearchOptions search{.num_flips = options.search,
                           .tail_rows = options.tail_rows,
                           .resume = file ? file->read() : PlanSearchState{}};
  if (own_plan.find('S') != std::string::npos) search.compared = {{"the checkpoint's", own_plan}};

  const InterruptScope scope;
  ProgressBar bar("searching", !options.engine.quiet && !options.json);
  StepPrinter printer(!options.json);
  const auto num_steps = static_cast<size_t>(options.search);
  search.on_candidate = [&](const PlanSearchState& state) {
    if (file) file->write(state);
    if (state.pending.empty()) printer.print_new(state, num_steps, bar);
  };
  search.progress = [&](int64_t done, int64_t total) {
    throw_if_interrupted();
    bar.update(done, total);
  };
  const PlanSearchResult result = search_plan(engine, windows, search);
  bar.wipe();
  printer.print_new(result.state, num_steps, bar);
  if (options.json)
    print_json(result_json(result, options, engine.info()));
  else
    print(describe(result, options));
  return kOk;
}

}  // namespace indexshare::cli
