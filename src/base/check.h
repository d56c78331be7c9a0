// SPDX-License-Identifier: Apache-2.0
// ENSURE: our own mistakes, always on, thrown as ErrorCode::internal. fail(): everybody else's mistakes.
#pragma once

#include <fmt/format.h>

#include <string>

#include "indexshare/error.h"

namespace indexshare {

/// Throws Error{code} with a message in fmt's format.
template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void ensure_failed(const char* condition, const char* file, int line, const std::string& detail);

}  // namespace indexshare

#define ENSURE(condition, ...)                                                                 \
  do {                                                                                         \
    if (!(condition)) [[unlikely]]                                                             \
      ::indexshare::ensure_failed(#condition, __FILE__, __LINE__, ::fmt::format(__VA_ARGS__)); \
  } while (false)
