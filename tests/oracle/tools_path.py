# SPDX-License-Identifier: Apache-2.0
"""Makes tools/ importable from the tests beside this file."""

import sys
from pathlib import Path

TOOLS = str(Path(__file__).resolve().parents[2] / "tools")
if TOOLS not in sys.path:
    sys.path.append(TOOLS)
