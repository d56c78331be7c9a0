// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

namespace indexshare {

void ensure_failed(const char* condition, const char* file, int line, const std::string& detail) {
  fail(ErrorCode::internal, "{}:{}: {} does not hold: {}", file, line, condition, detail);
}

}  // namespace indexshare
