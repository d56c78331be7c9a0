// SPDX-License-Identifier: Apache-2.0
// Where a model's name leads: a directory, or a snapshot in the local Hugging Face cache,
// HUB/models--ORG--NAME/{refs/main, snapshots/REVISION/}. Never the network.
#include <algorithm>
#include <cstdlib>
#include <optional>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"

namespace indexshare {

namespace fs = std::filesystem;

namespace {

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

std::optional<fs::path> hub_directory() {
  if (const auto hub = environment("HF_HUB_CACHE")) return *hub;
  if (const auto home = environment("HF_HOME")) return fs::path(*home) / "hub";
  if (const auto home = environment("HOME")) return fs::path(*home) / ".cache/huggingface/hub";
  return std::nullopt;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                  c == '_' || c == '.';
         });
}

// The snapshot that refs/main names; without one, the only snapshot there is.
fs::path find_snapshot(const fs::path& repository) {
  const fs::path ref = repository / "refs/main", snapshots = repository / "snapshots";
  std::error_code error;
  if (fs::exists(ref, error)) {
    std::string revision = read_text_file(ref, 256);
    revision.erase(revision.find_last_not_of(" \r\n\t") + 1);
    if (!is_plain_name(revision))
      fail(ErrorCode::unsupported, "{}: expected the name of a snapshot, found {}", ref.string(),
           quoted_name(revision));
    if (!fs::is_directory(snapshots / revision, error))
      fail(ErrorCode::not_found, "{}: no such snapshot, though {} names it", (snapshots / revision).string(),
           ref.string());
    return snapshots / revision;
  }
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(snapshots, error))
    if (entry.is_directory(error)) found.push_back(entry.path());
  if (found.size() != 1)
    fail(ErrorCode::not_found, "{}: expected refs/main or exactly one snapshot, found {} snapshots",
         repository.string(), found.size());
  return found[0];
}

}  // namespace

fs::path resolve_model(const std::string& model) {
  std::error_code error;
  if (fs::is_directory(model, error)) return model;
  refuse_foreign_format(model);
  if (fs::exists(model, error))
    fail(ErrorCode::unsupported,
         "{}: expected a model directory with config.json and safetensors files, found a file", model);
  const size_t slash = model.find('/');
  const std::string org = model.substr(0, slash),
                    name = slash == std::string::npos ? "" : model.substr(slash + 1);
  if (!is_plain_name(org) || !is_plain_name(name))
    fail(ErrorCode::not_found, "{}: no such directory", quoted_name(model));
  const auto hub = hub_directory();
  if (!hub)
    fail(ErrorCode::not_found,
         "{}: no such directory, and none of HF_HUB_CACHE, HF_HOME and HOME says where a cache is", model);
  const fs::path repository = *hub / ("models--" + org + "--" + name);
  if (!fs::is_directory(repository, error))
    fail(ErrorCode::not_found, "{}: no such directory, and no {} (models are never downloaded)", model,
         repository.string());
  return find_snapshot(repository);
}

}  // namespace indexshare
