// SPDX-License-Identifier: Apache-2.0
#include "engine/generation_config.h"

#include <algorithm>

#include "base/check.h"
#include "base/json.h"

namespace indexshare {

GenerationConfig load_generation_config(const std::filesystem::path& directory, int64_t vocab_size) {
  GenerationConfig config;
  const std::filesystem::path path = directory / "generation_config.json";
  if (!std::filesystem::exists(path)) return config;
  const Json document = read_json_file(path, {.max_bytes = 1'000'000});
  const JsonObject fields(document, path.string());
  SamplingOptions& s = config.sampling;
  if (const auto v = fields.optional_double("temperature", 0, 100)) s.temperature = static_cast<float>(*v);
  if (const auto v = fields.optional_double("top_p", 0, 1)) s.top_p = *v > 0 ? static_cast<float>(*v) : 1;
  if (const auto v = fields.optional_int("top_k", -1)) s.top_k = std::max<int64_t>(*v, 0);  // -1 is off, too
  if (const auto v = fields.optional_double("min_p", 0, 1)) s.min_p = static_cast<float>(*v);
  if (const auto v = fields.optional_double("repetition_penalty", 1e-3, 100))
    s.repetition_penalty = static_cast<float>(*v);
  if (fields.optional_bool("do_sample") == false) s.temperature = 0;
  const Json* eos = fields.find("eos_token_id");
  if (!eos) return config;
  const auto ids = eos->is_array() ? fields.required_int_list("eos_token_id")
                                   : std::vector<int64_t>{fields.required_int("eos_token_id")};
  for (int64_t id : ids)
    if (id < vocab_size) config.eos_token_ids.push_back(static_cast<int32_t>(id));
  if (config.eos_token_ids.size() < ids.size())  // shrunken models keep the ids of the model they came from
    config.notes.push_back(
        fmt::format("generation_config.json: {} of {} eos_token_id are beyond vocab_size {} and ignored",
                    ids.size() - config.eos_token_ids.size(), ids.size(), vocab_size));
  return config;
}

}  // namespace indexshare
