// SPDX-License-Identifier: Apache-2.0
#include "cache/row_formats.h"

#include "base/check.h"

namespace indexshare {

namespace {

RowFormat parse(const char* option, const std::string& value) {
  for (const RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    if (row_format_name(format) == value) return format;
  fail(ErrorCode::invalid_argument, "{}: expected auto, f32, bf16 or int8, found {}", option, value);
}

}  // namespace

RowFormat choose_latent_format(const std::string& option, bool exact_weights) {
  if (option != "auto") return parse("kv_cache_dtype", option);
  return exact_weights ? RowFormat::f32 : RowFormat::bf16;
}

RowFormat choose_index_key_format(const std::string& option, RowFormat latents) {
  if (option != "auto") return parse("index_cache_dtype", option);
  return latents == RowFormat::f32 ? RowFormat::f32 : RowFormat::int8;
}

}  // namespace indexshare
