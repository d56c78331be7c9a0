#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the program's drafts against the plain numpy rounds, with the selection shared and without.

    tests/oracle/drafts_test.py --program build/bin/indexshare [--backend reference]

Mistakes that engines have made must lie far from what the program does, or the comparison would
prove nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import tools_path  # noqa: F401
from checkpoint.inventory import Recipe
from checkpoint.safetensors_file import Checkpoint
from configurations import Configuration, find
from numpy_drafts import Mistakes, NumpyDrafts
from scoring import TOLERANCE, row_errors

NUM_STEPS = 4
MISTAKES = ("targets_selection", "last_row", "other_hidden", "token_at_0")
MTP = {"num_nextn_predict_layers": 1, "index_share_for_mtp_iteration": True}


def configurations():
    result = []
    for name in ("glm_freq_offset", "glm_indexer_types", "deepseek_yarn_groups", "glm_biases"):
        c = find([name])[0]
        result.append(Configuration("mtp_" + name, c.covers, {**c.config, **MTP}, 120, seed=c.seed))
    base = result[0].config
    result.append(Configuration("mtp_short", "", {**base, "index_topk": 64}, 40))
    gates = Recipe(gate_along=0.0)
    result.append(
        Configuration("mtp_plateaus", "", {**base, "index_n_heads": 2}, 120, recipe=gates)
    )
    return result


def run_program(arguments, folder, share):
    """f32 [NUM_STEPS, n, vocab]."""
    path = os.path.join(folder, "drafts.npy")
    command = [arguments.program, "logits", folder, "--backend", arguments.backend]
    command += ["--tokens", os.path.join(folder, "tokens.npy"), "--output", os.devnull]
    command += ["--draft-tokens", str(NUM_STEPS), "--draft-output", path, "--chunk-size", "50"]
    command += [] if share else ["--no-draft-index-share"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return np.load(path)


def errors(found, expected):
    """Of each step, by row."""
    return [row_errors(found[s, : len(e)], e) for s, e in enumerate(expected)]


def judge(share, found, model, tokens):
    """What is wrong, in words."""
    wrong = errors(found, model.drafts(tokens, NUM_STEPS, share))
    failures = []
    worst = max(e.max() for e in wrong)
    if not worst <= TOLERANCE["f32"]:
        beyond = [int((e > TOLERANCE["f32"]).sum()) for e in wrong]
        failures.append(f"rows beyond {TOLERANCE['f32']:g} by step: {beyond}")
    topk, n = model.config["index_topk"], len(tokens)
    for name in MISTAKES:
        if name in ("targets_selection", "last_row") and (not share or topk >= n):
            continue
        mistaken = errors(found, model.drafts(tokens, NUM_STEPS, share, Mistakes(**{name: True})))
        if max(e.max() for e in mistaken) < 100 * TOLERANCE["f32"]:
            failures.append(f"{name} would not be noticed")
    return worst, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="build/bin/indexshare")
    parser.add_argument("--backend", choices=("cpu", "reference"), default="cpu")
    arguments = parser.parse_args()
    failed = 0
    for configuration in configurations():
        with tempfile.TemporaryDirectory() as folder:
            tokens = configuration.write(folder)
            model = NumpyDrafts(Checkpoint(folder))
            for share in (True, False):
                found = run_program(arguments, folder, share)
                worst, failures = judge(share, found, model, tokens)
                failed += bool(failures)
                print(
                    f"{configuration.name:26} {'shared' if share else 'own':6} error {worst:.1e}"
                    f"  {'FAILED: ' + '; '.join(failures) if failures else 'ok'}",
                    flush=True,
                )
    return 1 if failed else 0


if __name__ == "__main__":
    np.seterr(over="ignore")
    sys.exit(main())
