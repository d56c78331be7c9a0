// SPDX-License-Identifier: Apache-2.0
// The one exception the library throws. Every message is one sentence that names the thing, what was expected
// and what was found; the code says what a caller can do about it.
#pragma once

#include <stdexcept>
#include <string>

namespace indexshare {

enum class ErrorCode {
  invalid_argument,  // a request or an option is wrong: change it
  not_found,         // a model or a file is not where it was said to be
  unsupported,       // a well-formed model that this build cannot run, or a malformed one
  out_of_memory,     // weights or caches do not fit
  io,                // a file cannot be written
  device,            // the machine lacks or lost what the backend needs
  numerical,         // a sequence produced NaN; only that sequence is affected
  internal,          // a mistake of ours
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace indexshare
