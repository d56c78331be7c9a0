// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

// A row at a time, so that the processor sees one stream and fetches ahead of it.
void convert_to_bf16(const HeldRows& rows, int64_t step_end, std::byte* tiles) {
  constexpr int64_t kFetchAhead = 512;  // elements
  const int64_t in_dim = rows.product->weight->in_dim();
  const HeldPlace place{rows.num_rows, step_end - rows.step};
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    const float* x = rows.product->x_row(rows.row_begin + r) + rows.step * 32;
    for (int64_t step = rows.step; step < step_end; ++step, x += 32) {
      const int64_t left = in_dim - step * 32, length = left < 0 ? 0 : left < 32 ? left : 32;
      const auto mask = static_cast<uint32_t>((uint64_t{1} << length) - 1);
      _mm_prefetch(x + kFetchAhead, _MM_HINT_T0);
      _mm_prefetch(x + kFetchAhead + 16, _MM_HINT_T0);
      const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x);
      const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), x + 16);
      _mm512_store_si512(tiles + place(r, step - rows.step),
                         reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
    }
  }
}

}  // namespace indexshare::amx

#pragma GCC pop_options

#else

namespace indexshare::amx {
void convert_to_bf16(const HeldRows&, int64_t, std::byte*) { ENSURE(false, "this build has no tiles"); }
}  // namespace indexshare::amx

#endif
