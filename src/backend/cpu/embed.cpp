// SPDX-License-Identifier: Apache-2.0
// y[row] = table[tokens[row]], from the mapped file or from a packed matrix; rows are shared out among
// threads.
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/packed_matrix.h"
#include "base/check.h"

namespace indexshare {

void CpuBackend::embed(const EmbedArgs& args) {
  const int64_t vocab = args.table->out_dim(), hidden = args.table->in_dim();
  for (int64_t row = 0; row < args.num_rows; ++row)
    ENSURE(args.tokens[row] >= 0 && args.tokens[row] < vocab, "token {} of a vocabulary of {}",
           args.tokens[row], vocab);
  const auto* packed = dynamic_cast<const PackedMatrix*>(args.table);
  const auto* mapped = dynamic_cast<const MappedMatrix*>(args.table);
  ENSURE(packed || mapped, "embed: the table is another backend's");
  parallel(args.num_rows, 32, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      float* y = args.y + row * hidden;
      if (packed) {
        packed->read_row(args.tokens[row], y);
      } else {
        mapped->read_row(args.tokens[row], y);
      }
    }
  });
}

}  // namespace indexshare
