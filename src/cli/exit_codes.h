// SPDX-License-Identifier: Apache-2.0
// What the shell is told, and the two ways a verb ends early that are no fault of the library.
#pragma once

#include <stdexcept>

#include "indexshare/error.h"

namespace indexshare::cli {

enum ExitCode : int {
  kOk = 0,
  kRuntimeFailure = 1,
  kUsage = 2,          // the command line, or a file named on it
  kBadModel = 3,       // missing, malformed or unsupported
  kOutOfResource = 4,  // memory or device
  kInterrupted = 130,  // SIGINT, as shells report it
};

/// A mistake on the command line or in a file it names.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Thrown out of a long verb after SIGINT, so that what it holds is released on the way.
struct Interrupted {};

inline ExitCode exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return kUsage;
    case ErrorCode::not_found:  // the library only looks for models; the verbs read all other files
                                // themselves
    case ErrorCode::unsupported:
      return kBadModel;
    case ErrorCode::out_of_memory:
    case ErrorCode::device:
      return kOutOfResource;
    case ErrorCode::io:
    case ErrorCode::numerical:
    case ErrorCode::internal:
      return kRuntimeFailure;
  }
  return kRuntimeFailure;
}

}  // namespace indexshare::cli
