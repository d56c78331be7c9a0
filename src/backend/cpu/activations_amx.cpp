// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

// A row at a time, so that the processor sees one stream and fetches ahead of it.
void convert_to_bf16(const HeldRows& rows, int64_t step_end, std::byte* tiles) {
  constexpr int64_t kFetchAhead = 512;  // elements
  const int64_t in_dim = rows.product->weight->in_dim(), num_steps = step_end - rows.step;
  const HeldPlace place{rows.num_rows, num_steps};
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    const float* x = rows.product->x_row(rows.row_begin + r) + rows.step * 32;
    int64_t left = in_dim - rows.step * 32;
    std::byte* to = nullptr;
    for (int64_t step = 0; step < num_steps; ++step, x += 32, left -= 32, to += kHeldStepBytes) {
      if (step % chunk_steps(rows.num_rows) == 0) to = tiles + place(r, step);
      const int64_t length = left < 0 ? 0 : left < 32 ? left : 32;
      const auto mask = static_cast<uint32_t>((uint64_t{1} << length) - 1);
      _mm_prefetch(x + kFetchAhead, _MM_HINT_T0);
      _mm_prefetch(x + kFetchAhead + 16, _MM_HINT_T0);
      const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x);
      const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), x + 16);
      _mm512_store_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
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
