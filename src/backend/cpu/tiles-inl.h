// SPDX-License-Identifier: Apache-2.0
// For *_amx.cpp alone, to be included after every other header: from here on the compiler may use AVX-512 and
// tile instructions, so nothing shared with other files may follow. Run only where KernelPath::tiles.
//
//   C[16 x 16] f32 or i32 += A[16 x 64 bytes] * B[64 bytes x 16]
// A: rows of 32 bf16 or 64 bytes, at any stride. B: 16 rows of 64 bytes; row i holds, for each of 16 columns,
// the 4 bytes (2 bf16 or 4 codes) that meet bytes 4i .. 4i+3 of A's rows.
#pragma once

#include "backend/cpu/tiles.h"

#ifdef INDEXSHARE_X86_KERNELS
#define INDEXSHARE_HAS_TILES 1

#include <immintrin.h>

#include <cstdint>

#pragma GCC push_options
#pragma GCC target( \
    "amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx512vbmi,fma")

namespace indexshare::amx {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 1024;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

/// Tiles in all eight registers for as long as it lives; one per kernel call, not nested. Full ones, but
/// those of C and A, 0 to 5, where there are less than 16 rows to multiply.
class TileScope {
 public:
  explicit TileScope(int64_t num_rows = kTileRows) {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) {
      config.row_bytes[tile] = 64;
      config.rows[tile] = static_cast<uint8_t>(tile < 6 && num_rows < kTileRows ? num_rows : kTileRows);
    }
    // g++ 12 declares only 8 of the 64 bytes as read and drops the stores to the others: the operand does
    // not.
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

/// Vector instructions take subnormal numbers for zero, as tile products always do, while it lives.
class FlushSubnormals {
 public:
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  unsigned before_;
};

}  // namespace indexshare::amx

#endif
