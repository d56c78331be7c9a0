// SPDX-License-Identifier: Apache-2.0
#include "backend/backend.h"
#include "base/check.h"

namespace indexshare {

size_t row_format_bytes(RowFormat format) {
  switch (format) {
    case RowFormat::f32:
      return 4;
    case RowFormat::bf16:
      return 2;
  }
  ENSURE(false, "row format {}", static_cast<int>(format));
  return 0;
}

}  // namespace indexshare
