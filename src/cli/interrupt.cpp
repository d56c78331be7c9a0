// SPDX-License-Identifier: Apache-2.0
#include "interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "exit_codes.h"

namespace indexshare::cli {
namespace {

// Signal handlers have no other place to leave a word.
std::atomic<int> scopes{0};
std::atomic<bool> raised{false};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void on_sigint(int) {
  if (scopes.load() == 0 || raised.exchange(true)) _exit(kInterrupted);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action = {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = on_sigint;  // no SA_RESTART: a chat waiting for a line wakes up
  sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
}

InterruptScope::InterruptScope() {
  raised = false;
  ++scopes;
}

InterruptScope::~InterruptScope() { --scopes; }

bool interrupted() { return raised; }

void throw_if_interrupted() {
  if (raised) throw Interrupted{};
}

}  // namespace indexshare::cli
