// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/kernel_path.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "base/check.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // as in targets.h
#include <hwy/targets.h>

namespace indexshare {

namespace {

struct NamedTargets {
  std::string_view name;
  int64_t targets;  // the best one present is meant
};

constexpr std::array kNamedTargets = {NamedTargets{"avx512", HWY_AVX3 | HWY_AVX3_DL},
                                      NamedTargets{"avx2", HWY_AVX2},
                                      NamedTargets{"scalar", HWY_SCALAR | HWY_EMU128}};

std::string name_of(int64_t target) {
  for (const NamedTargets& named : kNamedTargets)
    if (named.targets & target) return std::string(named.name);
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

}  // namespace

KernelPath choose_kernel_path(const char* forced) {
  int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  if (forced && *forced) {
    const auto named = std::find_if(kNamedTargets.begin(), kNamedTargets.end(),
                                    [&](const NamedTargets& n) { return n.name == forced; });
    if (named == kNamedTargets.end())
      fail(ErrorCode::invalid_argument,
           "INDEXSHARE_FORCE_KERNEL: expected \"avx512\", \"avx2\" or \"scalar\", found \"{}\"", forced);
    usable = (usable | (HWY_TARGETS & (HWY_SCALAR | HWY_EMU128))) & named->targets;
    if (!usable)
      fail(ErrorCode::device, "INDEXSHARE_FORCE_KERNEL={}: this machine or this build lacks it", forced);
  }
  const int64_t best = usable & -usable;  // Highway numbers better targets lower
  return {name_of(best), table_index_of(best)};
}

}  // namespace indexshare
