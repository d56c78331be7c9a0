// SPDX-License-Identifier: Apache-2.0
// SIGINT. Until a verb opens an InterruptScope it ends the program at once with 130. Inside a scope the first
// one only raises a flag, which the verb looks at between steps; a second one ends the program at once.
#pragma once

namespace indexshare::cli {

/// Installed by main() before anything else; also makes SIGPIPE end the program quietly whatever the parent
/// chose.
void install_signal_handlers();

class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

bool interrupted();
void throw_if_interrupted();  // @throws Interrupted

}  // namespace indexshare::cli
