// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/kernel_path.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "backend/cpu/tiles.h"
#include "base/check.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // as in targets.h
#include <hwy/targets.h>

namespace indexshare {

namespace {

struct NamedTarget {
  std::string_view name;
  int64_t target;
};

constexpr std::array kNamedTargets = {NamedTarget{"avx512", HWY_AVX3}, NamedTarget{"avx2", HWY_AVX2},
                                      NamedTarget{"scalar", HWY_SCALAR | HWY_EMU128}};

std::string name_of(int64_t target) {
  for (const NamedTarget& named : kNamedTargets)
    if (named.target & target) return std::string(named.name);
  std::string name = hwy::TargetName(target);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

size_t table_index_of(int64_t target) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0) return 0;  // HWY_EXPORT makes one-entry tables
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return chosen.GetIndex();
}

int64_t usable_targets() {
  return (hwy::SupportedTargets() & HWY_TARGETS) | (HWY_TARGETS & (HWY_SCALAR | HWY_EMU128));
}

KernelPath best_path() {
  const int64_t usable = usable_targets(), best = usable & -usable;  // Highway numbers better targets lower
  KernelPath path{name_of(best), table_index_of(best)};
  if (!(best & HWY_AVX3) || !processor_has_vnni()) return path;
  path.name = "vnni";
  path.vnni = true;
  const TileSupport support = request_tiles();
  if (support == TileSupport::granted) {
    path.name = "amx";
    path.tiles = true;
  } else if (support == TileSupport::denied) {
    path.note = "the processor has AMX tiles, but the system does not let this process use them";
  }
  return path;
}

}  // namespace

KernelPath choose_kernel_path(const char* forced) {
  if (!forced || !*forced) return best_path();
  const auto lacks = [&](std::string_view why) {
    fail(ErrorCode::device, "INDEXSHARE_FORCE_KERNEL={}: {}", forced, why);
  };
  if (std::string_view(forced) == "amx" || std::string_view(forced) == "vnni") {
    KernelPath path = best_path();
    if (std::string_view(forced) == "amx" && !path.tiles)
      lacks(path.note.empty() ? "this machine or this build lacks it" : path.note);
    if (!path.vnni) lacks("this machine or this build lacks it");
    path.tiles = path.tiles && std::string_view(forced) == "amx";
    path.name = forced;
    path.note.clear();
    return path;
  }
  const auto named = std::find_if(kNamedTargets.begin(), kNamedTargets.end(),
                                  [&](const NamedTarget& n) { return n.name == forced; });
  if (named == kNamedTargets.end())
    fail(ErrorCode::invalid_argument,
         "INDEXSHARE_FORCE_KERNEL: expected \"amx\", \"vnni\", \"avx512\", \"avx2\" or \"scalar\", found "
         "\"{}\"",
         forced);
  const int64_t usable = usable_targets() & named->target;
  if (!usable) lacks("this machine or this build lacks it");
  return {std::string(named->name), table_index_of(usable)};
}

}  // namespace indexshare
