// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "backend/backend.h"

namespace indexshare {

/// @throws Error{device} where the build has no CUDA backend or the machine no supported GPU.
std::unique_ptr<Backend> make_cuda_backend();

}  // namespace indexshare
