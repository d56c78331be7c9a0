// SPDX-License-Identifier: Apache-2.0
// The SIGBUS handler behind MappedFile: knows every mapped range and the name of its file.
#pragma once

#include <cstddef>
#include <string>

namespace indexshare {

/// Adds [data, data + size); the first range installs the handler.
void guard_mapping(const std::byte* data, size_t size, const std::string& name);

/// Removes the range that starts at `data`; the last one puts the previous handler back.
void unguard_mapping(const std::byte* data);

}  // namespace indexshare
