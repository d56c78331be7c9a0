// SPDX-License-Identifier: Apache-2.0
// Intel AMX: eight tile registers of 16 rows x 64 bytes and products of tiles. Kernels that use them live in
// files of their own, *_amx.cpp, which include tiles-inl.h; the rest of the program asks here.
#pragma once

// Whether this build has *_amx.cpp and *_vnni.cpp: they need g++'s "#pragma GCC target", which clang, used
// for fuzzing, does not know.
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
#define INDEXSHARE_X86_KERNELS 1
#endif

namespace indexshare {

enum class TileSupport {
  granted,
  denied,  // the processor has them, the system refuses
  absent,  // processor or build lacks them (int8 and bf16 products are both needed)
};

/// AVX-512's integer dot products of 8-bit codes, the next best.
bool processor_has_vnni();

/// Asks the system, for the whole process, on the first call.
TileSupport request_tiles();

}  // namespace indexshare
