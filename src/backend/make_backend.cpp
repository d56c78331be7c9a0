// SPDX-License-Identifier: Apache-2.0
// The only file that names the backends.
#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/reference/reference_backend.h"
#include "base/check.h"

namespace indexshare {

std::unique_ptr<Backend> make_backend(const std::string& name, int threads) {
  if (threads < 0) fail(ErrorCode::invalid_argument, "threads: expected 0 or more, found {}", threads);
  if (name == "reference") return make_reference_backend();
  if (name == "cpu") return make_cpu_backend(threads);
  if (name == "cuda") return make_cuda_backend();
  fail(ErrorCode::invalid_argument, "backend: expected \"reference\", \"cpu\" or \"cuda\", found \"{}\"",
       name);
}

}  // namespace indexshare
