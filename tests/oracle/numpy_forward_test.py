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
from scoring import NEAR_TIE, row_errors, unexplained

TOLERANCE = 2e-5


def ignored_as_planned(checkpoint, oracle):
    """Only the MTP layer and the indexers of shared layers may be left unread by transformers."""
    mtp = f"model.layers.{checkpoint.config['num_hidden_layers']}."
    return all(name.startswith(mtp) or ".indexer." in name for name in oracle.ignored)


def main():
    failed = 0
    configurations = find(sys.argv[1:])
    for configuration in configurations:
        with tempfile.TemporaryDirectory() as folder:
            tokens = configuration.write(folder)
            checkpoint = Checkpoint(folder)
            oracle = run_oracle(folder, tokens, overrides=configuration.overrides)
            model = NumpyModel(checkpoint, configuration.overrides)
            free = model.forward(tokens)
            forced = model.forward(tokens, oracle.selections)
        near = (oracle.gaps <= NEAR_TIE) & ~oracle.plateaus
        otherwise = unexplained(free.selections, oracle.selections, near)
        error = row_errors(forced.logits, oracle.logits).max()
        good = error <= TOLERANCE and otherwise == 0 and ignored_as_planned(checkpoint, oracle)
        failed += not good
        print(
            f"{configuration.name:26} rows {near.size:6}  error {error:.1e}"
            f"  near ties {near.sum():3}  plateaus {oracle.plateaus.sum():4}"
            f"  least routing margin {oracle.routing_gaps.min():.1e}"
            f"  unused tensors {len(oracle.ignored):3}  {'ok' if good else 'FAILED'}",
            flush=True,
        )
    print(f"{len(configurations) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    np.seterr(over="ignore")
    sys.exit(main())
