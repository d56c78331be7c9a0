// SPDX-License-Identifier: Apache-2.0
#include "backend/backend.h"

#include <cstring>

namespace indexshare {

size_t row_format_bytes(RowFormat format) { return format == RowFormat::f32 ? 4 : 2; }

void Backend::copy(void* to, const void* from, size_t num_bytes) { std::memcpy(to, from, num_bytes); }

}  // namespace indexshare
