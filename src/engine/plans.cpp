// SPDX-License-Identifier: Apache-2.0
// Other share plans than the loaded one, a call at a time, over the same weights: a layer that is full in the
// loaded plan may be shared for a while, never the other way round. Only full layers write index keys, so
// each sequence remembers which layers miss some.
#include "base/check.h"
#include "engine/engine_state.h"

namespace indexshare {

SharePlan Engine::State::plan_of(const EvaluateOptions& wanted) const {
  const SharePlan& loaded = model->config().plan;
  if (wanted.pattern.empty()) return loaded;
  if (options.attention == AttentionMode::dense)
    fail(ErrorCode::invalid_argument, "pattern: an engine loaded with dense attention selects nothing");
  SharePlan plan = [&] {
    try {
      return SharePlan::from_pattern(wanted.pattern, loaded.num_layers(), "pattern");
    } catch (const Error& error) {  // a caller's mistake here, not a checkpoint's
      throw Error(ErrorCode::invalid_argument, error.what());
    }
  }();
  for (const int layer : plan.full_layers())
    if (!loaded.is_full(layer))
      fail(ErrorCode::invalid_argument,
           "pattern: expected S for layer {}, whose indexer is not loaded (the plan in force is {}), found F",
           layer, loaded.pattern());
  plan.slot = loaded.slot;  // the cache is laid out for the loaded plan
  return plan;
}

void Engine::State::check_keys(const Sequence& sequence, const SharePlan& plan) const {
  if (info.full_layers.empty() || sequence.lacks_keys.empty()) return;
  for (const int layer : plan.full_layers())
    if (sequence.lacks_keys[layer])
      fail(
          ErrorCode::invalid_argument,
          "sequence {}: layer {} is full in plan {} but has no index keys of some positions, which ran under "
          "another plan",
          sequence.id, layer, plan.pattern());
}

void Engine::State::note_missing_keys(Sequence& sequence, const SharePlan& plan, bool dense) const {
  const SharePlan& loaded = model->config().plan;
  for (const int layer : loaded.full_layers())
    if (dense || !plan.is_full(layer)) {
      sequence.lacks_keys.resize(static_cast<size_t>(loaded.num_layers()));
      sequence.lacks_keys[layer] = true;
    }
}

}  // namespace indexshare
