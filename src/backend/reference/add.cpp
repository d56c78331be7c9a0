// SPDX-License-Identifier: Apache-2.0
// x += y
#include "backend/reference/reference_backend.h"

namespace indexshare {

void ReferenceBackend::add(const AddArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) args.x[i] += args.y[i];
}

}  // namespace indexshare
