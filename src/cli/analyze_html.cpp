// SPDX-License-Identifier: Apache-2.0
// The analysis as one HTML file: no script, nothing fetched, light and dark by the reader's setting.
#include <fmt/format.h>

#include <algorithm>

#include "analyze.h"
#include "svg.h"

namespace indexshare::cli {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --ground: #fbfbf9; --panel: #ffffff; --ink: #1d2126; --soft: #5d6670;
  --rule: #dfe2e5; --hue: #12606e; --on-hue: #ffffff; --c1: #12606e; --c2: #d1622b; --c3: #9aa3ac; --c4: #7b4fa3; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171a; --panel: #1b1f23; --ink: #e6e8ea; --soft: #9aa4ae; --rule: #30363c;
    --hue: #4fb3c3; --on-hue: #0d1b1e; --c1: #4fb3c3; --c2: #ee8a55; --c3: #737d87; --c4: #b78ade; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 800px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 44px 0 4px; }
p { margin: 6px 0 12px; }
.lead { color: var(--soft); }
.meta { color: var(--soft); font-size: 14px; margin: 14px 0 0; overflow-wrap: anywhere; }
.meta b { color: var(--ink); font-weight: 600; }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, "Liberation Mono", monospace; }
pre { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: 10px 12px;
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; margin: 10px 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 10px; margin: 22px 0 0; }
.tile { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px; }
.tile .value { font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile .what { color: var(--soft); font-size: 13px; line-height: 1.4; }
figure { margin: 12px 0 0; background: var(--panel); border: 1px solid var(--rule); border-radius: 8px;
  padding: 14px 14px 10px; }
svg { display: block; width: 100%; height: auto; margin: 0 auto; }
svg text { font-family: inherit; }
.label { font-size: 11.5px; fill: var(--soft); }
.axis { font-size: 12.5px; fill: var(--soft); }
.number { font-size: 11.5px; fill: var(--ink); pointer-events: none; }
.number.strong { fill: var(--on-hue); }
.cell { fill: var(--hue); }
.cell.source { stroke: var(--c2); stroke-width: 2; }
g:hover > .cell { stroke: var(--ink); stroke-width: 1.5; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.mark { stroke: var(--panel); stroke-width: 1; }
.mark:hover { r: 6; }
.line.s1 { stroke: var(--c1); } .mark.s1 { fill: var(--c1); } .key.s1 { background: var(--c1); }
.line.s2 { stroke: var(--c2); } .mark.s2 { fill: var(--c2); } .key.s2 { background: var(--c2); }
.line.s3 { stroke: var(--c3); stroke-dasharray: 5 4; } .mark.s3 { fill: var(--c3); } .key.s3 { background: var(--c3); }
.line.s4 { stroke: none; } .mark.s4 { fill: transparent; stroke: var(--c4); stroke-width: 1.5; r: 7; }
.mark.s4:hover { r: 9; } .key.s4 { background: none; border: 2px solid var(--c4); border-radius: 50%; }
.legend { font-size: 13px; color: var(--soft); text-align: center; margin: 4px 0 2px; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 14px;
  vertical-align: -1px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; width: 100%;
  margin: 10px 0; }
th, td { text-align: right; padding: 5px 7px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; }
dt { font-weight: 600; margin-top: 10px; } dd { margin: 0; color: var(--soft); }
footer { margin-top: 44px; border-top: 1px solid var(--rule); padding-top: 12px; color: var(--soft); font-size: 13px; }
@media print { body { background: none; } figure, .tile { break-inside: avoid; } }
)css";

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string percent_or_dash(const std::optional<double>& share) { return share ? percent(*share) : "–"; }

std::string tile(const std::string& value, const std::string& what) {
  return fmt::format("<div class=\"tile\"><div class=\"value\">{}</div><div class=\"what\">{}</div></div>\n",
                     escape_html(value), escape_html(what));
}

std::string section(const std::string& title, const std::string& explanation, const std::string& figure) {
  return fmt::format("<h2>{}</h2>\n<p class=\"lead\">{}</p>\n<figure>\n{}</figure>\n", escape_html(title),
                     escape_html(explanation), figure);
}

std::string html_table(const std::vector<std::vector<std::string>>& rows) {
  std::string text = "<div class=\"scroll\"><table>\n";
  for (const auto& row : rows) {
    const char* tag = &row == &rows.front() ? "th" : "td";
    text += "<tr>";
    for (const std::string& cell : row) text += fmt::format("<{0}>{1}</{0}>", tag, escape_html(cell));
    text += "</tr>\n";
  }
  return text + "</table></div>\n";
}

const OutputComparison* find_output(const SharingReport& r, const std::string& reference,
                                    const std::string& tested) {
  const auto found = std::find_if(r.outputs.begin(), r.outputs.end(), [&](const OutputComparison& c) {
    return c.reference == reference && c.tested == tested;
  });
  return found == r.outputs.end() ? nullptr : &*found;
}

// Means over the layers that share.
struct SharedMeans {
  double overlap = 0, own = 0, shared = 0, as_run = 0;
  int count = 0;
};

SharedMeans shared_means(const SharingReport& r) {
  SharedMeans m;
  for (const LayerSharing& l : r.per_layer) {
    if (l.layer == l.source) continue;
    ++m.count;
    m.as_run += l.as_run.mean;
    if (!l.own) continue;
    m.overlap += l.own_and_shared->share;
    m.own += l.own->mean;
    m.shared += l.shared->mean;
  }
  for (double* sum : {&m.overlap, &m.own, &m.shared, &m.as_run}) *sum /= std::max(m.count, 1);
  return m;
}

std::string tiles(const SharingReport& r) {
  std::string text = "<div class=\"tiles\">\n";
  const SharedMeans means = shared_means(r);
  if (r.has_own && means.count > 0) {
    text += tile(percent(means.overlap), "of a shared layer's own choice is in the selection it is given");
    text += tile(fmt::format("{} / {}", percent(means.shared), percent(means.own)),
                 "of its attention covered: by the selection it is given / by its own");
  } else if (means.count > 0) {
    text +=
        tile(percent(means.as_run), "of a shared layer's attention is covered by the selection it is given");
  }
  const std::string reference = r.has_own ? "every_layer" : "dense";
  const std::string words = r.has_own ? "an indexer in every layer" : "dense attention";
  if (const OutputComparison* c = find_output(r, reference, "shared")) {
    text += tile(percent(c->top1_agreement), "of rows predict the same token as with " + words);
    text += tile(fmt::format("{:.4f} nats", c->kl.mean), "divergence of the predictions (KL) from " + words);
    text += tile(fmt::format("{:+.4f} nats", c->loss_difference.mean),
                 fmt::format("loss a token against {} (± {:.4f})", words, c->loss_difference.standard_error));
  }
  return text + "</div>\n";
}

std::vector<std::string> layer_labels(const std::vector<int>& layers) {
  std::vector<std::string> labels;
  for (const int layer : layers) labels.push_back(std::to_string(layer));
  return labels;
}

std::vector<std::string> all_layer_labels(const SharingReport& r) {
  std::vector<std::string> labels;
  for (const LayerSharing& l : r.per_layer) labels.push_back(std::to_string(l.layer));
  return labels;
}

std::string overlap_section(const SharingReport& r) {
  HeatMap map{.rows = layer_labels(r.layers), .columns = layer_labels(r.layers)};
  for (size_t i = 0; i < r.layers.size(); ++i) {
    map.cells.emplace_back();
    for (const Overlap& overlap : r.overlap[i]) map.cells.back().push_back(overlap.share);
    const int source = r.per_layer[r.layers[i]].source;
    const auto at = std::find(r.layers.begin(), r.layers.end(), source);
    map.outlined_columns.push_back(static_cast<size_t>(at - r.layers.begin()));
  }
  map.hover = [&](size_t row, size_t column) {
    const Overlap& o = r.overlap[row][column];
    return fmt::format("layers {} and {}: {:.1f} % in common, Jaccard {:.3f}", r.layers[row],
                       r.layers[column], 100 * o.share, o.jaccard);
  };
  map.row_title = map.column_title = "layer";
  const std::string who =
      r.has_own ? "Each layer chooses with its own indexer here. "
                : "Only layers with an indexer are compared, as this checkpoint has none in the others. ";
  return section(
      "Which layers choose the same tokens",
      who + fmt::format("A cell is the share of the k = {} selected positions that two layers have in "
                        "common; framed in each row is the layer's source under the plan.",
                        r.topk),
      draw(map));
}

std::string distance_section(const SharingReport& r) {
  if (r.distances.size() < 2) return "";
  LineChart chart{.column_title = "layers apart"};
  LineChart::Series mean{"mean", "s1", {}}, lowest{"lowest pair", "s3", {}},
      highest{"highest pair", "s2", {}};
  for (const DistanceOverlap& d : r.distances) {
    chart.columns.push_back(std::to_string(d.distance));
    mean.values.push_back(d.mean.share);
    lowest.values.push_back(d.lowest);
    highest.values.push_back(d.highest);
  }
  chart.series = {highest, mean, lowest};
  return section(
      "Overlap by distance",
      "How much of two layers' selections agrees, by how many layers lie between them: sharing reaches "
      "as far as this stays high.",
      draw(chart));
}

std::string coverage_chart(const SharingReport& r, double Coverage::* field) {
  LineChart chart{.columns = all_layer_labels(r), .column_title = "layer"};
  LineChart::Series best{"best possible k", "s3", {}}, own{"its own choice", "s1", {}},
      source{"its source's choice", "s2", {}}, as_run{"as run under the plan", "s4", {}};
  for (const LayerSharing& l : r.per_layer) {
    const auto value = [&](const std::optional<Coverage>& c) {
      return c ? std::optional((*c).*field) : std::nullopt;
    };
    best.values.push_back(l.oracle ? (*l.oracle).*field : l.as_run_oracle.*field);
    own.values.push_back(value(l.own));
    source.values.push_back(value(l.shared));
    as_run.values.push_back(l.as_run.*field);
  }
  chart.series = r.has_own ? std::vector{best, own, source, as_run} : std::vector{best, as_run};
  return draw(chart);
}

std::string coverage_sections(const SharingReport& r) {
  return section(
             "How much attention the selection holds",
             "The share of the dense attention probability that falls on the selected positions, mean of the "
             "heads: where the source's choice is as good as the layer's own, nothing is lost by sharing.",
             coverage_chart(r, &Coverage::mean)) +
         section("The same for the head that fares worst",
                 "One head may look where the others do not: the least covered head of each row, mean of the "
                 "rows.",
                 coverage_chart(r, &Coverage::worst));
}

std::string needle_section(const SharingReport& r, const std::string& needle) {
  if (needle.empty()) return "";
  HeatMap map{.columns = all_layer_labels(r), .column_title = "layer"};
  const auto add = [&](const std::string& name, std::optional<double> LayerSharing::* field) {
    map.rows.push_back(name);
    map.cells.emplace_back();
    for (const LayerSharing& l : r.per_layer) map.cells.back().push_back(l.*field);
  };
  if (r.has_own) add("own choice", &LayerSharing::needle_own);
  add("as run", &LayerSharing::needle_as_run);
  map.hover = [&](size_t row, size_t column) {
    return fmt::format("layer {}, {}: {:.0f} % of the passage's tokens selected", map.columns[column],
                       map.rows[row], 100 * map.cells[row][column].value_or(0));
  };
  return section(
      "Is the passage found?",
      fmt::format("The share of the tokens of “{}” that are selected at the end of the text, where an "
                  "answer would begin.",
                  needle),
      draw(map));
}

std::string outputs_section(const SharingReport& r) {
  std::vector<std::vector<std::string>> rows = {
      {"", "KL, nats a token", "same most likely token", "rise of the loss, nats a token"}};
  for (const OutputComparison& c : r.outputs) {
    rows.push_back(
        {fmt::format("{} → {}", c.reference, c.tested),
         fmt::format("{:.5f} ± {:.5f}", c.kl.mean, c.kl.standard_error), percent(c.top1_agreement),
         fmt::format("{:+.5f} ± {:.5f}", c.loss_difference.mean, c.loss_difference.standard_error)});
  }
  std::string losses;
  for (const NamedLoss& l : r.losses)
    losses += fmt::format("{}{} {:.4f} ± {:.4f}", losses.empty() ? "Losses, nats a token: " : "; ", l.name,
                          l.loss.mean, l.loss.standard_error);
  return fmt::format(
             "<h2>What it does to the predictions</h2>\n<p class=\"lead\">Next-token distributions of the "
             "same {} "
             "rows, one way of running the model against another; ± is the standard error, as if rows were "
             "independent.</p>\n",
             r.num_output_rows) +
         (r.outputs.empty() ? "" : html_table(rows)) + "<p class=\"meta\">" + escape_html(losses) + ".</p>\n";
}

std::string group_section(const SharingReport& r) {
  std::vector<std::vector<std::string>> rows = {
      {"source", "layers", "overlap", "lowest overlap", "own choice covers", "source's covers", "as run"}};
  for (const GroupMeans& g : group_means(r)) {
    rows.push_back({std::to_string(g.source), fmt::format("{}", fmt::join(g.layers, " ")),
                    percent_or_dash(g.overlap), percent_or_dash(g.lowest_overlap), percent_or_dash(g.own),
                    percent_or_dash(g.shared), percent_or_dash(g.as_run)});
  }
  return "<h2>Group by group</h2>\n<p class=\"lead\">Layers that attend with one selection; overlap and "
         "coverage are "
         "means over those of them without an indexer.</p>\n" +
         html_table(rows);
}

std::string layer_section(const SharingReport& r) {
  std::vector<std::vector<std::string>> rows = {{"layer", "source", "overlap", "Jaccard", "own", "source's",
                                                 "best k", "as run", "worst head, own", "source's",
                                                 "as run"}};
  for (const LayerSharing& l : r.per_layer) {
    const bool shares = l.layer != l.source;
    const auto mean = [](const std::optional<Coverage>& c) { return c ? percent(c->mean) : "–"; };
    const auto worst = [](const std::optional<Coverage>& c) { return c ? percent(c->worst) : "–"; };
    rows.push_back({std::to_string(l.layer), shares ? std::to_string(l.source) : "itself",
                    shares && l.own_and_shared ? percent(l.own_and_shared->share) : "–",
                    shares && l.own_and_shared ? fmt::format("{:.3f}", l.own_and_shared->jaccard) : "–",
                    mean(l.own), mean(l.shared), mean(l.oracle ? l.oracle : l.as_run_oracle), mean(l.as_run),
                    worst(l.own), worst(l.shared), worst(l.as_run)});
  }
  return "<h2>Layer by layer</h2>\n<p class=\"lead\">The numbers behind the figures.</p>\n" +
         html_table(rows);
}

constexpr const char* kDefinitions = R"html(<h2>How to read this</h2>
<dl>
<dt>Selection</dt><dd>With sparse attention a layer attends to the k positions that an indexer scores highest. A shared
layer has no indexer in use and takes the selection of its source, the nearest layer before it that has one.</dd>
<dt>Overlap, Jaccard</dt><dd>Positions two selections have in common, over k; and over all positions in either.</dd>
<dt>Covered</dt><dd>The probability that dense attention, computed from the layer's queries and the cached keys at that
moment, puts on the selection. The best possible k are the positions with the highest mean over heads.</dd>
<dt>Own and source's choice; as run</dt><dd>The first two are compared in one pass with an indexer in every layer. As run
is the pass under the plan itself, whose hidden states have already been shaped by sharing.</dd>
<dt>KL</dt><dd>Kullback–Leibler divergence of the next-token distribution from the reference's.</dd>
</dl>
)html";

std::string header(const SharingReport& r, const AnalyzedModel& model, const AnalyzeOptions& options) {
  std::string name = model.info.directory;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  name = name.substr(name.find_last_of('/') + 1);
  const auto num_full = std::count(r.pattern.begin(), r.pattern.end(), 'F');
  std::string text = fmt::format("<h1>Index sharing in {}</h1>\n", escape_html(name));
  text += fmt::format(
      "<p class=\"lead\">What {} does when {} of its {} layers run an indexer and the others reuse their "
      "selections, "
      "on {} tokens of {}.</p>\n",
      escape_html(name), num_full, r.pattern.size(), with_commas(r.num_tokens),
      escape_html(options.text_file));
  text += fmt::format(
      "<p class=\"meta\">plan <code><b>{}</b></code> · k = {} · {} rows looked at, from position {} on "
      "(those before "
      "see everything under any plan) · {}, cache in {}</p>\n",
      r.pattern, with_commas(r.topk), with_commas(r.num_rows), with_commas(r.first_row),
      escape_html(model.info.backend), escape_html(model.info.kv_cache_dtype));
  return text + fmt::format("<pre><code>{}</code></pre>\n", escape_html(options.command));
}

}  // namespace

std::string report_html(const SharingReport& report, const AnalyzedModel& model,
                        const AnalyzeOptions& options) {
  std::string text = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n";
  text += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
  text += "<title>Index sharing: " + escape_html(model.info.directory) + "</title>\n";
  text += std::string("<style>") + kStyle + "</style>\n</head>\n<body>\n<main>\n";
  text += header(report, model, options) + tiles(report) + overlap_section(report) + distance_section(report);
  text += coverage_sections(report) + needle_section(report, model.needle) + outputs_section(report);
  text += group_section(report) + layer_section(report) + kDefinitions;
  return text +
         "<footer>Made by <code>indexshare analyze</code>; hover over a figure for its numbers.</footer>\n" +
         "</main>\n</body>\n</html>\n";
}

}  // namespace indexshare::cli
