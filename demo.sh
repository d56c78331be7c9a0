#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, then lets the bundled model read a long text with a planted fact and answer a question about it, once with
# selections shared between layers and once with an indexer in every layer. ./demo.sh --help says more.
#   ./demo.sh         the project's own documents and sources, repeated to 64K tokens
#   ./demo.sh FILE    any text
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$root/setup.sh"
exec /usr/bin/python3 "$root/tools/demo.py" "$@"
