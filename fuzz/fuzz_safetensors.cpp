// SPDX-License-Identifier: Apache-2.0
// parse_safetensors() on hostile bytes: an Error or views inside the buffer that do not overlap, nothing
// else. An input that starts with '{' is taken for a header and gets the right length in front, so that
// mutations reach the rules.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "checkpoint/safetensors.h"
#include "indexshare/error.h"

namespace {

std::string file_of(const uint8_t* data, size_t size) {
  std::string input(reinterpret_cast<const char*>(data), size);
  if (!input.starts_with('{')) return input;
  // The header ends with the last brace; what follows are the tensors' bytes.
  const size_t header_bytes = input.rfind('}') + 1;
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((uint64_t{header_bytes} >> (8 * i)) & 0xff);
  return length + input;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = file_of(data, size);
  const auto* begin = reinterpret_cast<const std::byte*>(file.data());
  try {
    const std::byte* covered = nullptr;
    for (const indexshare::TensorView& tensor : indexshare::parse_safetensors(begin, file.size(), "fuzz")) {
      const bool in_order = covered == nullptr || tensor.data == covered;
      covered = tensor.data + tensor.num_bytes();
      if (!in_order || tensor.data < begin || covered > begin + file.size()) std::abort();
    }
    if (covered != nullptr && covered != begin + file.size()) std::abort();
  } catch (const indexshare::Error& error) {
    if (error.code() != indexshare::ErrorCode::unsupported) std::abort();
  }
  return 0;
}
