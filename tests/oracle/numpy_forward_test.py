#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds transformers and our own reading of the specification against each other.

    tests/oracle/numpy_forward_test.py [NAME ...]

Two codes with nothing in common but the checkpoint must agree on every configuration.
"""

import sys
import tempfile

import numpy as np

import tools_path  # noqa: F401
from checkpoint.safetensors_file import Checkpoint
from configurations import find
from numpy_forward import NumpyModel
from oracle import run_oracle
from scoring import NEAR_TIE, row_errors

TOLERANCE = 2e-5


def main():
    failed = 0
    configurations = find(sys.argv[1:])
    for configuration in configurations:
        with tempfile.TemporaryDirectory() as folder:
            tokens = configuration.write(folder)
            oracle = run_oracle(folder, tokens, overrides=configuration.overrides)
            model = NumpyModel(Checkpoint(folder), configuration.overrides)
            free = model.forward(tokens)
            forced = model.forward(tokens, oracle.selections)
        differing = (free.selections != oracle.selections).any(-1)
        unexplained = int((differing[0] & (oracle.gaps[0] > NEAR_TIE)).sum())
        error = row_errors(forced.logits, oracle.logits).max()
        good = error <= TOLERANCE and not unexplained and (differing.any() or free.logits is not None)
        failed += not good
        near = (oracle.gaps <= NEAR_TIE) & ~oracle.plateaus
        print(
            f"{configuration.name:26} rows {differing.size:6}  error {error:.1e}"
            f"  near ties {near.sum():3}  plateaus {oracle.plateaus.sum():4}"
            f"  rows selected otherwise {differing.sum():3}  least routing margin"
            f" {oracle.routing_gaps.min():.1e}  {'ok' if good else 'FAILED'}",
            flush=True,
        )
    print(f"{len(configurations) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    np.seterr(over="ignore")
    sys.exit(main())
