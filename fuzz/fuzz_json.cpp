// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "base/json.h"
#include "indexshare/error.h"

// Whatever is accepted prints and parses again to the same document.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace indexshare;
  try {
    const Json json = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz.json");
    if (parse_json(json.dump(), "again.json") != json) std::abort();
    const JsonObject object(json, "fuzz.json");
    if (object.optional_int("n", -5, 5).value_or(0) > 5) std::abort();
    object.optional_string("s");
    object.optional_double("f");
    object.required_int_list("l");
  } catch (const Error& error) {
    if (error.code() == ErrorCode::internal) std::abort();
  }
  return 0;
}
