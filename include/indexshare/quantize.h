// SPDX-License-Identifier: Apache-2.0
// Writes a checkpoint whose weights are int8 or int4, in compressed-tensors' pack-quantized layout: groups of
// 128 columns (int8) or 64 (int4) share one f32 scale, symmetric. It loads like any other, and gives what
// EngineOptions::weights gives with the original.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "indexshare/error.h"
#include "indexshare/options.h"

namespace indexshare {

struct QuantizeOptions {
  std::string weights =
      "int8";            // "int8" | "int4"; index queries and keys and the head are int8 in either case
  bool replace = false;  // replace a model that stands at the destination
  int threads = 0;       // 0 = what affinity and cgroup allow
  Progress progress;     // bytes of the original
};

/// Weights of one kind, of which a table can be made.
struct QuantizedKind {
  std::string kind;    // "attention", "indexer", "experts", "MLP", "head", "kept"
  std::string format;  // "int8" | "int4", or "" where they are kept as they are
  int64_t num_weights = 0;
  size_t bytes_before = 0, bytes_after = 0;
  double relative_rms_error = 0;  // sqrt(sum (w - quantised w)^2 / sum w^2)
};

struct QuantizeReport {
  size_t bytes_before = 0, bytes_after = 0;  // of all weights
  std::vector<QuantizedKind> kinds;
};

/// @param model a directory or a name in the local Hugging Face cache; f32, f16, bf16 or FP8 weights.
/// @param out appears complete or not at all; must not be inside `model` nor hold it.
/// @throws Error{not_found, unsupported} for a bad model, Error{invalid_argument} for a bad destination,
/// Error{io} where it cannot be written.
QuantizeReport quantize_model(const std::string& model, const std::string& out,
                              const QuantizeOptions& options = {});

}  // namespace indexshare
