// SPDX-License-Identifier: Apache-2.0
// The parts of `indexshare analyze`: its options, the text it reads, and the forms its results are shown in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "indexshare/analysis.h"
#include "options.h"
#include "terminal.h"

namespace indexshare::cli {

struct AnalyzeOptions {
  EngineFlags engine;
  std::string command;  // as it was typed, for the report
  std::string text_file;
  int64_t context = 4096;
  bool json = false;

  // The analysis.
  int64_t rows = 64, needle_rows = 1;
  bool no_dense = false;
  std::optional<std::string> needle, plant, question, html;
  double needle_depth = 0.5;

  // The search.
  int search = 0;
  int64_t windows = 1, tail_rows = 0;
  std::optional<std::string> state;
};

/// A text as the model reads it.
struct AnalyzedText {
  std::vector<int32_t> tokens;
  std::string needle;              // "" for none
  std::vector<int64_t> needle_at;  // positions of its tokens
};

/// The first --context tokens of the file, with what is planted and asked. @throws UsageError.
AnalyzedText read_analyzed_text(const AnalyzeOptions& options, const Tokenizer& tokenizer,
                                const std::string& model_directory);

/// --windows windows of --context tokens, one behind the other. @throws UsageError where the text is too
/// short.
std::vector<std::vector<int32_t>> read_windows(const AnalyzeOptions& options, const Tokenizer& tokenizer);

/// What every form of the report says about the model and the text.
struct AnalyzedModel {
  ModelInfo info;
  std::string needle;
};

std::string report_text(const SharingReport& report, const AnalyzedModel& model);
Json report_json(const SharingReport& report, const AnalyzedModel& model);
/// One file without anything outside it: figures as SVG, light and dark.
std::string report_html(const SharingReport& report, const AnalyzedModel& model,
                        const AnalyzeOptions& options);

/// Layers that attend with one source's selection, and the means over them.
struct GroupMeans {
  int source = 0;
  std::vector<int> layers;  // the source first
  // Means over the layers that share, without the source; none where it is alone. The first four need own
  // selections.
  std::optional<double> overlap, lowest_overlap, own, shared, as_run;
  std::optional<double> needle_as_run;  // of the source's selection
};
std::vector<GroupMeans> group_means(const SharingReport& report);

/// Runs the search and prints what it finds. @param own_plan the checkpoint's, set beside the others.
int run_search(const AnalyzeOptions& options, Engine& engine,
               const std::vector<std::vector<int32_t>>& windows, const std::string& own_plan);

}  // namespace indexshare::cli
