#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds everything and runs all tests. Prints what fails, ctest's closing lines, and "N passed, N failed".
#   ./test.sh              all of them
#   ./test.sh -L engine    what ctest's own options choose
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
./setup.sh all

status=0
ctest --test-dir build --parallel "$(nproc)" --output-on-failure --no-tests=error "$@" </dev/null 2>&1 |
  tee build/test.log |
  { grep -Ev '^ *Start +[0-9]+:|^ *[0-9]+/[0-9]+ Test +#.*[. ]Passed |^Internal ctest changing|^Test project ' || true; } ||
  status=$?

# "97% tests passed, 3 tests failed out of 120"
if read -r failed total < <(sed -nE 's/^[0-9]+% tests passed, ([0-9]+) tests? failed out of ([0-9]+)$/\1 \2/p' build/test.log); then
  echo "$((total - failed)) passed, $failed failed"
fi
exit "$status"
