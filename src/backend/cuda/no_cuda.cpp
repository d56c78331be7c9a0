// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA backend in a build without it.
#include "backend/cuda/cuda_backend.h"
#include "base/check.h"

namespace indexshare {

std::unique_ptr<Backend> make_cuda_backend() { fail(ErrorCode::device, "this build has no CUDA backend"); }

}  // namespace indexshare
