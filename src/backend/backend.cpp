// SPDX-License-Identifier: Apache-2.0
#include "backend/backend.h"

#include <cstring>

#include "base/check.h"

namespace indexshare {

std::string row_format_name(RowFormat format) {
  return format == RowFormat::f32 ? "f32" : format == RowFormat::bf16 ? "bf16" : "int8";
}

RowFormat row_format_of(const std::string& name) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    if (row_format_name(format) == name) return format;
  fail(ErrorCode::invalid_argument, "row format: expected f32, bf16 or int8, found {}", name);
}

void Backend::copy(void* to, const void* from, size_t num_bytes) { std::memcpy(to, from, num_bytes); }

}  // namespace indexshare
