// SPDX-License-Identifier: Apache-2.0
#include "tile_peak.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <random>

#include "backend/cpu/tiles.h"
// After every other header.
#include "backend/cpu/tiles-inl.h"

namespace indexshare {

#ifdef INDEXSHARE_HAS_TILES

namespace {

constexpr int64_t kTileBytes = 1024, kRowBytes = 64;
constexpr int64_t kBlocks = 6;  // of two tiles of each factor: 24 KiB, so that they stay in the first cache

void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

template <bool kInt8>
void multiply_block() {
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

template <bool kInt8>
void multiply_zeros(int64_t steps) {
  clear_sums();
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < steps; ++i) multiply_block<kInt8>();
}

// Sums start again after all blocks, so that they stay numbers as a kernel has them.
template <bool kInt8>
void multiply_random(int64_t steps) {
  alignas(64) std::array<std::byte, kBlocks * 4 * kTileBytes> tiles;
  std::mt19937 random(1);
  for (size_t i = 0; i < tiles.size(); i += 2) {
    const auto bits = static_cast<uint16_t>(
        kInt8 ? random() : std::bit_cast<uint32_t>(std::normal_distribution<float>()(random)) >> 16);
    std::memcpy(&tiles[i], &bits, 2);
  }
  for (int64_t i = 0; i < steps; ++i) {
    if (i % kBlocks == 0) clear_sums();
    const std::byte* block = &tiles[static_cast<size_t>(i % kBlocks * 4 * kTileBytes)];
    _tile_loadd(4, block, kRowBytes);
    _tile_loadd(5, block + kTileBytes, kRowBytes);
    _tile_loadd(6, block + 2 * kTileBytes, kRowBytes);
    _tile_loadd(7, block + 3 * kTileBytes, kRowBytes);
    multiply_block<kInt8>();
  }
}

// A product of two tiles is 16 x 16 sums of as many multiply-adds as a row of 64 bytes has numbers.
template <bool kInt8>
double multiply(int64_t steps, TileOperands operands) {
  if (request_tiles() != TileSupport::granted) return 0;
  const amx::TileScope tiles;
  if (operands == TileOperands::zeros) multiply_zeros<kInt8>(steps);
  if (operands == TileOperands::random) multiply_random<kInt8>(steps);
  constexpr int kDepth = kInt8 ? 64 : 32;
  return static_cast<double>(steps) * 4 * 2 * 16 * 16 * kDepth;
}

}  // namespace

double multiply_int8_tiles(int64_t steps, TileOperands operands) { return multiply<true>(steps, operands); }
double multiply_bf16_tiles(int64_t steps, TileOperands operands) { return multiply<false>(steps, operands); }

#else

double multiply_int8_tiles(int64_t, TileOperands) { return 0; }
double multiply_bf16_tiles(int64_t, TileOperands) { return 0; }

#endif

}  // namespace indexshare
