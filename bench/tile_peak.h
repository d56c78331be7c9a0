// SPDX-License-Identifier: Apache-2.0
// What the tile units can do: with zeros that never leave the tile registers, which is their nominal peak,
// and with random numbers loaded from the first cache, at which the core clocks lower: what a kernel could
// reach that spent no time on anything else.
#pragma once

#include <cstdint>

namespace indexshare {

enum class TileOperands { zeros, random };

/// Operations (a multiply-add counts two) of `steps` rounds of four independent products; 0 where the process
/// has no tiles. The caller takes the time.
double multiply_int8_tiles(int64_t steps, TileOperands operands);
double multiply_bf16_tiles(int64_t steps, TileOperands operands);

}  // namespace indexshare
