// SPDX-License-Identifier: Apache-2.0
#include "engine/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace indexshare {

namespace {

constexpr size_t kUnknown = std::numeric_limits<size_t>::max();

// A file that holds one number of bytes; "max" and absence are unknown.
size_t read_bytes(const std::string& path) {
  std::ifstream file(path);
  size_t bytes = 0;
  return file >> bytes ? bytes : kUnknown;
}

// Page cache that the kernel gives up first; it counts as usage but is free for the asking.
size_t reclaimable_bytes(const std::string& stat_path) {
  std::ifstream stat(stat_path);
  std::string name;
  size_t bytes = 0;
  while (stat >> name >> bytes)
    if (name == "inactive_file" || name == "total_inactive_file") return bytes;
  return 0;
}

size_t left_in(const std::string& group, const char* limit_file, const char* usage_file) {
  const size_t limit = read_bytes(group + limit_file), usage = read_bytes(group + usage_file);
  if (limit == kUnknown || usage == kUnknown) return kUnknown;
  const size_t held = usage - std::min(usage, reclaimable_bytes(group + "/memory.stat"));
  return limit - std::min(limit, held);
}

// The least that is left in the process's own cgroup and those above it; lines are
// "<id>:<controllers>:<path>".
size_t cgroup_available() {
  size_t least = kUnknown;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && controllers.find("memory") == std::string::npos) continue;
    const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    for (std::string path = line.substr(second + 1);; path.resize(path.find_last_of('/'))) {
      if (path == "/") path.clear();
      least = std::min(least, v2 ? left_in(root + path, "/memory.max", "/memory.current")
                                 : left_in(root + path, "/memory.limit_in_bytes", "/memory.usage_in_bytes"));
      if (path.find('/') == std::string::npos) break;
    }
  }
  return least;
}

}  // namespace

size_t available_memory_bytes() {
  size_t machine = kUnknown;
  std::ifstream meminfo("/proc/meminfo");
  std::string name, unit;
  size_t kibibytes = 0;
  while (meminfo >> name >> kibibytes && std::getline(meminfo, unit))
    if (name == "MemAvailable:") machine = kibibytes * 1024;
  return std::min(machine, cgroup_available());
}

}  // namespace indexshare
