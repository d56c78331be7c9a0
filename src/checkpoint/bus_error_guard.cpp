// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/bus_error_guard.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>

namespace indexshare {

namespace {

// A signal handler may neither lock nor allocate: it walks this list, whose entries are reused but never
// freed.
struct Range {
  std::atomic<uintptr_t> begin{0}, end{0};  // empty where end == 0
  std::array<char, 512> name{};             // the tail of a longer one
  Range* next = nullptr;
};

std::atomic<Range*> first_range{nullptr};
std::mutex range_mutex;  // writers only
int num_ranges = 0;
struct sigaction previous_action;

void write_text(const char* text) {
  size_t left = std::strlen(text);
  while (left > 0) {
    const ssize_t written = write(STDERR_FILENO, text, left);
    if (written <= 0) return;
    text += written;
    left -= static_cast<size_t>(written);
  }
}

const Range* find_range(uintptr_t address) {
  for (const Range* range = first_range.load(std::memory_order_acquire); range; range = range->next)
    if (address < range->end.load(std::memory_order_acquire) && address >= range->begin.load()) return range;
  return nullptr;
}

void on_bus_error(int signal, siginfo_t* info, void*) {
  const Range* range = find_range(reinterpret_cast<uintptr_t>(info->si_addr));
  if (range) {
    write_text("indexshare: ");
    write_text(range->name.data());
    write_text(": the file became shorter, or unreadable, while it was in use\n");
    _exit(1);
  }
  sigaction(signal, &previous_action, nullptr);  // the access is repeated and meets the other handler
}

void install_handler() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous_action);
}

void remove_handler() {
  struct sigaction current{};
  sigaction(SIGBUS, nullptr, &current);
  if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == on_bus_error)
    sigaction(SIGBUS, &previous_action, nullptr);
}

Range* unused_range() {
  for (Range* range = first_range.load(); range; range = range->next)
    if (range->end.load() == 0) return range;
  auto* range = new Range;
  range->next = first_range.load();
  first_range.store(range, std::memory_order_release);
  return range;
}

}  // namespace

void guard_mapping(const std::byte* data, size_t size, const std::string& name) {
  const std::lock_guard lock(range_mutex);
  Range* range = unused_range();
  range->name.fill('\0');
  const size_t length = std::min(name.size(), range->name.size() - 1);
  name.copy(range->name.data(), length, name.size() - length);
  range->begin.store(reinterpret_cast<uintptr_t>(data));
  range->end.store(reinterpret_cast<uintptr_t>(data) + size, std::memory_order_release);
  if (num_ranges++ == 0) install_handler();
}

void unguard_mapping(const std::byte* data) {
  const std::lock_guard lock(range_mutex);
  for (Range* range = first_range.load(); range; range = range->next)
    if (range->end.load() != 0 && range->begin.load() == reinterpret_cast<uintptr_t>(data)) {
      range->end.store(0, std::memory_order_release);
      if (--num_ranges == 0) remove_handler();
      return;
    }
}

}  // namespace indexshare
