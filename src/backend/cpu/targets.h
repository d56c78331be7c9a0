// SPDX-License-Identifier: Apache-2.0
// Included by every kernel file after it defined HWY_TARGET_INCLUDE: compiles the file once for AVX-512, AVX2
// and plain C++. No guard: foreach_target.h re-includes the file.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#endif
#include <hwy/foreach_target.h>  // IWYU pragma: keep
