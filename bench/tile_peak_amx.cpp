// SPDX-License-Identifier: Apache-2.0
#include "tile_peak.h"

#include "backend/cpu/tiles.h"
// After every other header.
#include "backend/cpu/tiles-inl.h"

namespace indexshare {

#ifdef INDEXSHARE_HAS_TILES

namespace {

// A, B and C all zero: the unit's time does not depend on the values.
template <bool kInt8>
void multiply(int64_t steps) {
  const amx::TileScope tiles;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < steps; ++i) {
    if constexpr (kInt8) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
}

}  // namespace

double multiply_int8_tiles(int64_t steps) {
  if (request_tiles() != TileSupport::granted) return 0;
  multiply<true>(steps);
  return static_cast<double>(steps) * 4 * 2 * 16 * 16 * 64;
}

double multiply_bf16_tiles(int64_t steps) {
  if (request_tiles() != TileSupport::granted) return 0;
  multiply<false>(steps);
  return static_cast<double>(steps) * 4 * 2 * 16 * 16 * 32;
}

#else

double multiply_int8_tiles(int64_t) { return 0; }
double multiply_bf16_tiles(int64_t) { return 0; }

#endif

}  // namespace indexshare
