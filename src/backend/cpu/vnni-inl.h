// SPDX-License-Identifier: Apache-2.0
// For *_vnni.cpp alone, to be included after every other header: from here on the compiler may use AVX-512
// with integer dot products (_mm512_dpbusd_epi32 and kin), so nothing shared with other files may follow. Run
// only where KernelPath::vnni.
#pragma once

#include "backend/cpu/tiles.h"

#ifdef INDEXSHARE_X86_KERNELS
#define INDEXSHARE_HAS_VNNI 1

#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")

#endif
