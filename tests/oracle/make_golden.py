#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/oracle/golden/*.npz anew from transformers (tools/requirements-oracle.txt).

tests/oracle/make_golden.py [NAME ...]
"""

import sys
import tempfile

from compare import GOLDEN
from configurations import find
from expected import ask_oracle, save_golden


def main():
    GOLDEN.mkdir(exist_ok=True)
    for configuration in find(sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            expected = ask_oracle(configuration, folder, configuration.write(folder))
        path = GOLDEN / f"{configuration.name}.npz"
        save_golden(path, expected)
        print(f"{path.name:32} {path.stat().st_size:7} bytes")


if __name__ == "__main__":
    main()
