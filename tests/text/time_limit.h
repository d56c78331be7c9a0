// SPDX-License-Identifier: Apache-2.0
// Processor time that refusing one bad input may take.
#pragma once

namespace indexshare {

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INDEXSHARE_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(INDEXSHARE_SANITIZED)
constexpr double kMaxSeconds = 20;
#else
constexpr double kMaxSeconds = 1;
#endif

}  // namespace indexshare
