// SPDX-License-Identifier: Apache-2.0
#include "model/weight_formats.h"

#include <string_view>

#include "base/check.h"

namespace indexshare {

WeightRole role_of(const std::string& name) {
  const auto ends_with = [&](std::string_view tail) { return name.ends_with(std::string(tail) + ".weight"); };
  if (name == "lm_head.weight" || ends_with(".indexer.wq_b") || ends_with(".indexer.wk"))
    return WeightRole::delicate;
  if (ends_with(".self_attn.kv_b_proj")) return WeightRole::key_value;
  for (const char* tail : {".self_attn.q_a_proj", ".self_attn.q_b_proj", ".self_attn.kv_a_proj_with_mqa",
                           ".self_attn.o_proj", ".gate_proj", ".up_proj", ".down_proj"})
    if (ends_with(tail)) return WeightRole::projection;
  return WeightRole::exact;
}

WeightFormat format_of(WeightRole role, WeightFormat wanted) {
  if (role == WeightRole::exact || wanted == WeightFormat::as_stored) return WeightFormat::as_stored;
  return role == WeightRole::projection ? wanted : WeightFormat::int8;
}

std::string weight_format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::as_stored:
      return "as_stored";
    case WeightFormat::int8:
      return "int8";
    case WeightFormat::int4:
      return "int4";
  }
  return "";
}

WeightFormat weight_format_of(const std::string& name) {
  for (const WeightFormat format : {WeightFormat::as_stored, WeightFormat::int8, WeightFormat::int4})
    if (name == weight_format_name(format)) return format;
  fail(ErrorCode::invalid_argument, "weights: expected int8 or int4, found {}", name);
}

int activation_bits_of(WeightRole role, DType stored, WeightFormat format, int wanted) {
  if (role == WeightRole::exact) return 32;
  if (wanted != 0) return wanted;
  const bool fine = stored == DType::f32 || stored == DType::f16;
  return format == WeightFormat::as_stored && fine ? 32 : 16;
}

}  // namespace indexshare
