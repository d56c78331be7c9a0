// SPDX-License-Identifier: Apache-2.0
#include "model/share_plan.h"

#include <algorithm>

#include "base/check.h"
#include "base/json.h"

namespace indexshare {

namespace {

SharePlan from_full_layers(const std::vector<bool>& full) {
  SharePlan plan;
  int source = -1, num_full = 0;
  for (size_t layer = 0; layer < full.size(); ++layer) {
    if (full[layer]) source = static_cast<int>(layer);
    plan.source.push_back(source);
    plan.slot.push_back(full[layer] ? num_full++ : -1);
  }
  ENSURE(plan.source.empty() || plan.source[0] == 0, "layer 0 must be full");
  return plan;
}

SharePlan from_types(const std::vector<std::string>& types, int num_layers) {
  if (types.size() != static_cast<size_t>(num_layers))
    fail(ErrorCode::unsupported, "indexer_types: expected {} entries (num_hidden_layers), found {}",
         num_layers, types.size());
  std::vector<bool> full;
  for (const std::string& type : types) {
    if (type != "full" && type != "shared")
      fail(ErrorCode::unsupported, "indexer_types[{}]: expected \"full\" or \"shared\", found {}",
           full.size(), describe_json(Json(type)));
    full.push_back(type == "full");
  }
  if (!full[0])
    fail(ErrorCode::unsupported,
         "indexer_types[0]: expected \"full\" (no layer before it selects), found \"shared\"");
  return from_full_layers(full);
}

}  // namespace

int SharePlan::num_full() const {
  return static_cast<int>(std::count_if(slot.begin(), slot.end(), [](int s) { return s >= 0; }));
}

std::vector<int> SharePlan::full_layers() const {
  std::vector<int> layers;
  for (int layer = 0; layer < num_layers(); ++layer)
    if (is_full(layer)) layers.push_back(layer);
  return layers;
}

std::string SharePlan::pattern() const {
  std::string letters;
  for (int layer = 0; layer < num_layers(); ++layer) letters += is_full(layer) ? 'F' : 'S';
  return letters;
}

SharePlan SharePlan::every_layer(int num_layers) {
  return from_full_layers(std::vector<bool>(static_cast<size_t>(num_layers), true));
}

SharePlan SharePlan::from_pattern(const std::string& pattern, int num_layers, const std::string& field) {
  if (pattern.size() != static_cast<size_t>(num_layers))
    fail(ErrorCode::unsupported, "{}: expected {} letters (num_hidden_layers), found {}", field, num_layers,
         pattern.size());
  std::vector<bool> full;
  for (const char letter : pattern) {
    if (letter != 'F' && letter != 'S')
      fail(ErrorCode::unsupported, "{}: expected the letters F and S, found byte 0x{:02x} at {}", field,
           static_cast<unsigned char>(letter), full.size());
    full.push_back(letter == 'F');
  }
  if (!full[0])
    fail(ErrorCode::unsupported, "{}: expected F for layer 0 (no layer before it selects), found S", field);
  return from_full_layers(full);
}

SharePlan SharePlan::from_frequency(int64_t freq, int64_t offset, int num_layers) {
  if (freq < 1)
    fail(ErrorCode::unsupported, "index_topk_freq: expected an integer of at least 1, found {}", freq);
  if (offset < 0)
    fail(ErrorCode::unsupported, "index_skip_topk_offset: expected an integer of at least 0, found {}",
         offset);
  std::vector<bool> full;
  for (int64_t layer = 0; layer < num_layers; ++layer)
    full.push_back(std::max<int64_t>(layer - offset + 1, 0) % freq == 0);
  if (!full[0])
    fail(
        ErrorCode::unsupported,
        "index_skip_topk_offset: expected a value that leaves layer 0 full, found {} with index_topk_freq {}",
        offset, freq);
  return from_full_layers(full);
}

SharePlan choose_share_plan(const SharePlanFields& fields, int num_layers) {
  std::optional<SharePlan> of_pattern;
  if (fields.index_topk_pattern)
    of_pattern = SharePlan::from_pattern(*fields.index_topk_pattern, num_layers, "index_topk_pattern");
  if (fields.indexer_types) {
    SharePlan plan = from_types(*fields.indexer_types, num_layers);
    if (of_pattern && of_pattern->source != plan.source)
      fail(ErrorCode::unsupported, "index_topk_pattern: expected {} as indexer_types says, found {}",
           plan.pattern(), of_pattern->pattern());
    return plan;
  }
  if (of_pattern) return *of_pattern;
  // Only here: beside an explicit list, releases carry freq and offset that need not describe it.
  return SharePlan::from_frequency(fields.index_topk_freq.value_or(1),
                                   fields.index_skip_topk_offset.value_or(2), num_layers);
}

}  // namespace indexshare
