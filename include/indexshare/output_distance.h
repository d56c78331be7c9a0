// SPDX-License-Identifier: Apache-2.0
// How far apart two next-token distributions of one row are.
#pragma once

#include <cstdint>
#include <span>

namespace indexshare {

/// -log softmax(logits)[token], in nats.
double negative_log_likelihood(std::span<const float> logits, int32_t token);

struct OutputDistance {
  double kl = 0;           // KL(reference || tested), nats
  bool same_top1 = false;  // of equal logits the first counts
};

/// @param reference, tested logits [vocab]
OutputDistance output_distance(std::span<const float> reference, std::span<const float> tested);

}  // namespace indexshare
