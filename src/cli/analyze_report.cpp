// SPDX-License-Identifier: Apache-2.0
// The analysis as tables on a terminal and as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analyze.h"

namespace indexshare::cli {
namespace {

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

template <class T, class Get>
std::string percent_or_blank(const std::optional<T>& value, const Get& get) {
  return value ? percent(get(*value)) : "";
}

std::string percent_or_blank(const std::optional<double>& value) { return value ? percent(*value) : ""; }

std::string heading(const SharingReport& r, const AnalyzedModel& model) {
  std::string text = fmt::format("{}\n{} tokens read, k = {}; plan {}\n", model.info.directory,
                                 with_commas(r.num_tokens), with_commas(r.topk), r.pattern);
  text += fmt::format("{} rows looked at, from position {} on; those before see everything under any plan\n",
                      with_commas(r.num_rows), with_commas(r.first_row));
  if (!r.has_own) {
    text +=
        "this checkpoint has no indexer in its shared layers: what they would choose themselves is unknown, "
        "full layers alone are compared\n";
  }
  return text;
}

std::string layer_table(const SharingReport& r) {
  const auto mean = [](const Coverage& c) { return c.mean; };
  const auto worst = [](const Coverage& c) { return c.worst; };
  const auto share = [](const Overlap& o) { return o.share; };
  const auto jaccard = [](const Overlap& o) { return o.jaccard; };
  const bool needle = r.per_layer.front().needle_as_run.has_value();
  std::vector<std::string> head = {"layer",  "source", "overlap",         "Jaccard",  "own",   "source's",
                                   "best k", "as run", "worst head: own", "source's", "as run"};
  if (needle) head.insert(head.end(), {"needle: own", "as run"});
  std::vector<std::vector<std::string>> rows = {head};
  for (const LayerSharing& l : r.per_layer) {
    rows.push_back({std::to_string(l.layer), l.source == l.layer ? "full" : std::to_string(l.source),
                    l.source == l.layer ? "" : percent_or_blank(l.own_and_shared, share),
                    l.source == l.layer ? "" : percent_or_blank(l.own_and_shared, jaccard),
                    percent_or_blank(l.own, mean), percent_or_blank(l.shared, mean),
                    l.oracle ? percent(l.oracle->mean) : percent(l.as_run_oracle.mean),
                    percent(l.as_run.mean), percent_or_blank(l.own, worst), percent_or_blank(l.shared, worst),
                    percent(l.as_run.worst)});
    if (needle) {
      rows.back().push_back(percent_or_blank(l.needle_own));
      rows.back().push_back(percent_or_blank(l.needle_as_run));
    }
  }
  return "\noverlap with the source's selection, and dense attention covered (mean of heads)\n" + table(rows);
}

std::string group_table(const SharingReport& r) {
  std::vector<std::vector<std::string>> rows = {
      {"source", "layers", "overlap", "lowest", "covered: own", "source's", "as run", "needle"}};
  for (const GroupMeans& g : group_means(r)) {
    rows.push_back({std::to_string(g.source), fmt::format("{}", fmt::join(g.layers, " ")),
                    percent_or_blank(g.overlap), percent_or_blank(g.lowest_overlap), percent_or_blank(g.own),
                    percent_or_blank(g.shared), percent_or_blank(g.as_run),
                    percent_or_blank(g.needle_as_run)});
  }
  return "\ngroups that share one selection (means over the layers without an indexer of their own)\n" +
         table(rows, 2);
}

std::string distance_table(const SharingReport& r) {
  std::vector<std::vector<std::string>> rows = {
      {"distance", "pairs", "overlap", "lowest", "highest", "Jaccard"}};
  for (const DistanceOverlap& d : r.distances) {
    rows.push_back({std::to_string(d.distance), std::to_string(d.num_pairs), percent(d.mean.share),
                    percent(d.lowest), percent(d.highest), percent(d.mean.jaccard)});
  }
  return rows.size() < 2 ? "" : "\noverlap by distance of the layers\n" + table(rows);
}

std::string output_table(const SharingReport& r) {
  std::vector<std::vector<std::string>> rows = {
      {"reference", "tested", "KL, nats", "", "same top 1", "rise of the loss", ""}};
  for (const OutputComparison& c : r.outputs) {
    rows.push_back({c.reference, c.tested, fmt::format("{:.5f}", c.kl.mean),
                    fmt::format("+/- {:.5f}", c.kl.standard_error), percent(c.top1_agreement),
                    fmt::format("{:+.5f}", c.loss_difference.mean),
                    fmt::format("+/- {:.5f}", c.loss_difference.standard_error)});
  }
  std::string text = fmt::format("\nnext-token distributions of {} rows\n", with_commas(r.num_output_rows));
  if (rows.size() > 1) text += table(rows, 2);
  for (const NamedLoss& l : r.losses)
    text +=
        fmt::format("loss {} {:.5f} +/- {:.5f} nats a token\n", l.name, l.loss.mean, l.loss.standard_error);
  return text;
}

Json estimate_json(const Estimate& e) { return {{"mean", e.mean}, {"standard_error", e.standard_error}}; }
Json overlap_json(const Overlap& o) { return {{"share", o.share}, {"jaccard", o.jaccard}}; }
Json coverage_json(const Coverage& c) { return {{"mean", c.mean}, {"worst_head", c.worst}}; }

Json layer_json(const LayerSharing& l) {
  Json json = {{"layer", l.layer}, {"source", l.source}};
  if (l.own_and_shared) json["overlap_with_source"] = overlap_json(*l.own_and_shared);
  if (l.own) {
    json["coverage"] = {{"own", coverage_json(*l.own)},
                        {"source", coverage_json(*l.shared)},
                        {"oracle", coverage_json(*l.oracle)}};
  }
  json["coverage_as_run"] = {{"shared", coverage_json(l.as_run)}, {"oracle", coverage_json(l.as_run_oracle)}};
  if (l.needle_own) json["needle_recall_own"] = *l.needle_own;
  if (l.needle_as_run) json["needle_recall_as_run"] = *l.needle_as_run;
  return json;
}

Json group_json(const GroupMeans& g) {
  Json json = {{"source", g.source}, {"layers", g.layers}};
  const auto add = [&](const char* field, const std::optional<double>& value) {
    if (value) json[field] = *value;
  };
  add("overlap", g.overlap);
  add("lowest_overlap", g.lowest_overlap);
  add("coverage_own", g.own);
  add("coverage_source", g.shared);
  add("coverage_as_run", g.as_run);
  add("needle_recall_as_run", g.needle_as_run);
  return json;
}

Json matrix_json(const SharingReport& r, double Overlap::* field) {
  Json matrix = Json::array();
  for (const auto& row : r.overlap) {
    Json line = Json::array();
    for (const Overlap& overlap : row) line.push_back(overlap.*field);
    matrix.push_back(line);
  }
  return matrix;
}

}  // namespace

std::vector<GroupMeans> group_means(const SharingReport& report) {
  std::map<int, GroupMeans> groups;
  for (const LayerSharing& l : report.per_layer) {
    GroupMeans& g = groups[l.source];
    g.source = l.source;
    g.layers.push_back(l.layer);
    if (l.layer == l.source) {
      g.needle_as_run = l.needle_as_run;
      continue;
    }
    g.as_run = g.as_run.value_or(0) + l.as_run.mean;
    if (!l.own) continue;
    g.overlap = g.overlap.value_or(0) + l.own_and_shared->share;
    g.lowest_overlap = std::min(g.lowest_overlap.value_or(1), l.own_and_shared->share);
    g.own = g.own.value_or(0) + l.own->mean;
    g.shared = g.shared.value_or(0) + l.shared->mean;
  }
  std::vector<GroupMeans> result;
  for (auto& [source, g] : groups) {
    for (std::optional<double>* sum : {&g.overlap, &g.own, &g.shared, &g.as_run})
      if (*sum) **sum /= static_cast<double>(g.layers.size() - 1);
    result.push_back(g);
  }
  return result;
}

std::string report_text(const SharingReport& report, const AnalyzedModel& model) {
  std::string text = heading(report, model) + layer_table(report) + group_table(report);
  if (!model.needle.empty()) text += fmt::format("needle: {}\n", model.needle);
  return text + distance_table(report) + output_table(report);
}

Json report_json(const SharingReport& r, const AnalyzedModel& model) {
  Json json;
  json["schema_version"] = kSchemaVersion;
  json["model"] = model.info.directory;
  json["backend"] = model.info.backend;
  json["kv_cache_dtype"] = model.info.kv_cache_dtype;
  json["pattern"] = r.pattern;
  json["has_own_selections"] = r.has_own;
  json["tokens"] = r.num_tokens;
  json["index_topk"] = r.topk;
  json["rows"] = r.num_rows;
  json["first_row"] = r.first_row;
  json["output_rows"] = r.num_output_rows;
  if (!model.needle.empty()) json["needle"] = model.needle;
  json["layers"] = Json::array();
  for (const LayerSharing& l : r.per_layer) json["layers"].push_back(layer_json(l));
  json["groups"] = Json::array();
  for (const GroupMeans& g : group_means(r)) json["groups"].push_back(group_json(g));
  json["overlap"] = {{"layers", r.layers},
                     {"share", matrix_json(r, &Overlap::share)},
                     {"jaccard", matrix_json(r, &Overlap::jaccard)}};
  json["overlap_by_distance"] = Json::array();
  for (const DistanceOverlap& d : r.distances) {
    json["overlap_by_distance"].push_back({{"distance", d.distance},
                                           {"pairs", d.num_pairs},
                                           {"share", d.mean.share},
                                           {"jaccard", d.mean.jaccard},
                                           {"lowest_share", d.lowest},
                                           {"highest_share", d.highest}});
  }
  json["loss"] = Json::object();
  for (const NamedLoss& l : r.losses) json["loss"][l.name] = estimate_json(l.loss);
  json["outputs"] = Json::array();
  for (const OutputComparison& c : r.outputs) {
    json["outputs"].push_back({{"reference", c.reference},
                               {"tested", c.tested},
                               {"kl", estimate_json(c.kl)},
                               {"top1_agreement", c.top1_agreement},
                               {"loss_difference", estimate_json(c.loss_difference)}});
  }
  return json;
}

}  // namespace indexshare::cli
