// SPDX-License-Identifier: Apache-2.0
// The safetensors format, read strictly: 8 bytes of header length, a JSON header, then the tensors' bytes,
// which must cover the rest of the file exactly: no holes, no overlap, nothing after the last one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"

namespace indexshare {

constexpr size_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// Views into `data`, in the order of their bytes; they need not be aligned to their elements. `what` names
/// the file in messages. @throws Error{unsupported}.
std::vector<TensorView> parse_safetensors(const std::byte* data, size_t size, const std::string& what);

/// A type as the format spells it: "F32", "BF16", ...
const char* safetensors_dtype(DType dtype);

/// Whether the name is that of a weights file in another format (.bin, .gguf, ...).
bool is_foreign_format(const std::filesystem::path& file);
/// @throws Error{unsupported} where it is.
void refuse_foreign_format(const std::filesystem::path& file);

/// An untrusted name as a message shows it: quoted, control and non-ASCII bytes as \xNN, cut after 60 bytes.
std::string quoted_name(std::string_view name);

}  // namespace indexshare
