// SPDX-License-Identifier: Apache-2.0
// y[row] = table[tokens[row]]
#include "backend/reference/reference_backend.h"
#include "backend/reference/reference_matrix.h"
#include "base/check.h"

namespace indexshare {

void ReferenceBackend::embed(const EmbedArgs& args) {
  const auto& table = dynamic_cast<const ReferenceMatrix&>(*args.table);
  const int64_t hidden = table.in_dim();
  for (int64_t row = 0; row < args.num_rows; ++row) {
    const int64_t token = args.tokens[row];
    ENSURE(token >= 0 && token < table.out_dim(), "token {} of a vocabulary of {}", token, table.out_dim());
    for (int64_t i = 0; i < hidden; ++i) args.y[row * hidden + i] = table.at(token, i);
  }
}

}  // namespace indexshare
