// SPDX-License-Identifier: Apache-2.0
// What "auto" means for the formats of cached rows: one answer for running a model and for inspecting it.
#pragma once

#include <string>

#include "backend/backend.h"

namespace indexshare {

/// f32 checkpoints are kept exact by default; anything coarser gets bf16 rows, as every engine of this family
/// has. @param option "auto" | "f32" | "bf16" | "int8"; @throws Error{invalid_argument} for another
RowFormat choose_latent_format(const std::string& option, bool exact_weights);

/// Index keys choose what is read and are not read themselves, so they bear coarser rounding than latents;
/// the model family's own engines keep them in 8 bits.
RowFormat choose_index_key_format(const std::string& option, RowFormat latents);

}  // namespace indexshare
