// SPDX-License-Identifier: Apache-2.0
// What the tile units can do with operands that never leave the tile registers.
#pragma once

#include <cstdint>

namespace indexshare {

/// Operations (a multiply-add counts two) of `steps` rounds of four independent products; 0 where the process
/// has no tiles. The caller takes the time.
double multiply_int8_tiles(int64_t steps);
double multiply_bf16_tiles(int64_t steps);

}  // namespace indexshare
