// SPDX-License-Identifier: Apache-2.0
#include "child_process.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

extern char** environ;

namespace indexshare::cli {
namespace {

[[noreturn]] void fail(const char* doing, int error) {
  throw std::runtime_error(fmt::format("{}: {}", doing, std::strerror(error)));
}

std::string read_to_end(int descriptor) {
  std::string text;
  char block[4096];
  for (;;) {
    const ssize_t count = read(descriptor, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return text;
    text.append(block, static_cast<size_t>(count));
  }
}

}  // namespace

ChildResult run_self(const std::vector<std::string>& arguments) {
  int ends[2];
  if (pipe(ends) != 0) fail("opening a pipe", errno);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);

  std::vector<std::string> words = {"indexshare"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  ChildResult result;
  if (error == 0) result.output = read_to_end(ends[0]);
  close(ends[0]);
  if (error != 0) fail("starting a measurement", error);

  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail("waiting for a measurement", errno);
  }
  result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

}  // namespace indexshare::cli
