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
size_t read_bytes(const char* path) {
  std::ifstream file(path);
  size_t bytes = 0;
  return file >> bytes ? bytes : kUnknown;
}

size_t cgroup_available() {
  for (const auto& [limit_path, usage_path] :
       {std::pair{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        std::pair{"/sys/fs/cgroup/memory/memory.limit_in_bytes",
                  "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
    const size_t limit = read_bytes(limit_path), usage = read_bytes(usage_path);
    if (limit != kUnknown && usage != kUnknown) return limit - std::min(limit, usage);
  }
  return kUnknown;
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
