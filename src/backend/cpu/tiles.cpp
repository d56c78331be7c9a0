// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/tiles.h"

#ifdef INDEXSHARE_X86_KERNELS

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace indexshare {

namespace {

bool processor_has_tiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kNeeded = kBf16 | kTile | kInt8;
  constexpr unsigned kVbmi2 = 1u << 6;  // every processor with tiles has it, but perhaps not each virtual one
  return (d & kNeeded) == kNeeded && (c & kVbmi2);
}

}  // namespace

bool processor_has_vnni() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & (1u << 11));
}

namespace {

TileSupport request() {
  if (!processor_has_tiles()) return TileSupport::absent;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? TileSupport::granted
                                                                     : TileSupport::denied;
}

}  // namespace

TileSupport request_tiles() {
  static const TileSupport support = request();
  return support;
}

}  // namespace indexshare

#else

namespace indexshare {
bool processor_has_vnni() { return false; }
TileSupport request_tiles() { return TileSupport::absent; }
}  // namespace indexshare

#endif
