#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the program against the oracle on random checkpoints of every kind.

    tests/oracle/compare.py --program build/bin/indexshare            golden files, numpy is enough
    tests/oracle/compare.py --program build/bin/indexshare --live     asks transformers now
    tests/oracle/compare.py --program ... --live --random 50 --seed 1 on configurations drawn at random

f32 checkpoints: logits within 1e-4 of the row's largest at every position, selections identical.
Where a selection too close to call went the other way, the sequence is compared with the oracle's
selections forced into the program. f16, bf16, FP8: 2e-2 with forced selections, and 1e-3 between
our backends. All: the same bits whatever the chunk size and the number of threads.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from configurations import find
from expected import ask_oracle, digest, load_golden
from program import Program, ProgramError
from random_configurations import random_configurations
from scoring import BACKEND_TOLERANCE, TOLERANCE, recall, row_errors, unexplained

GOLDEN = Path(__file__).resolve().parent / "golden"


@dataclass
class Report:
    """One line of the table."""

    name: str
    dtype: str
    rows: int = 0
    error: float = np.inf
    near_ties: int = 0
    recall: float = 0.0
    bf16_rows: float = (
        np.nan
    )  # share of rows beyond the tolerance with a bf16 cache; told, not judged
    failures: list = field(default_factory=list)

    def __str__(self):
        bf16 = "" if np.isnan(self.bf16_rows) else f"{self.bf16_rows:.1%}"
        verdict = "FAILED: " + "; ".join(self.failures) if self.failures else "ok"
        return (
            f"{self.name:26} {self.dtype:5} {self.rows:6} {self.error:9.1e} {self.near_ties:6}"
            f" {self.recall:8.4f} {bf16:>7}  {verdict}"
        )


HEADING = f"{'configuration':26} {'dtype':5} {'rows':>6} {'error':>9} {'n.ties':>6} {'recall':>8}"
HEADING += f" {'bf16 kv':>7}"


def compare(configuration, arguments, folder):
    report = Report(configuration.name, configuration.dtype)
    tokens = configuration.write(folder)
    if arguments.live:
        expected = ask_oracle(configuration, folder, tokens)
    else:
        expected = load_golden(arguments.golden / f"{configuration.name}.npz")
        if expected.digest != digest(folder):
            report.failures.append("golden file belongs to other weights")
            return report

    def program(backend):
        return Program(arguments.program, backend, folder, len(tokens), configuration.overrides)

    ours = program(arguments.backend)
    try:
        whole = ours.run("--chunk-size", len(tokens), "--threads", 1)
        if whole[1].shape != expected.selections.shape:
            raise ProgramError(
                f"selections are {whole[1].shape}, expected {expected.selections.shape}"
            )
        check_selections(report, whole[1], expected, configuration)
        if configuration.dtype == "f32":
            check_logits(report, ours, whole, expected)
        else:
            check_rounded(report, ours, expected, configuration.dtype)
            if arguments.backend != "reference":
                check_backends(report, ours, program("reference"), expected)
        check_bits(report, ours, whole)
    except ProgramError as error:
        report.failures.append(str(error))
    return report


def check_selections(report, selections, expected, configuration):
    report.rows = expected.near_ties.size
    report.near_ties = int(expected.near_ties.sum())
    report.recall = recall(selections, expected.selections)
    if report.near_ties > configuration.max_near_ties * report.rows:
        report.failures.append("too many near ties to judge")


def check_logits(report, ours, whole, expected):
    """f32: identical selections, or the near ties explain every difference."""
    logits, selections = whole
    if not np.array_equal(selections, expected.selections):
        wrong = unexplained(selections, expected.selections, expected.near_ties)
        if wrong:
            report.failures.append(f"{wrong} rows selected otherwise")
        logits, _ = ours.run(forced=expected.selections)
    judge_error(report, expected.errors(logits), TOLERANCE["f32"])


def check_rounded(report, ours, expected, dtype):
    """f16, bf16, FP8: the oracle's selections with f32 rows; bf16 rows are reported beside."""
    logits, _ = ours.run(forced=expected.selections)
    judge_error(report, expected.errors(logits), TOLERANCE[dtype])
    logits, _ = ours.run(forced=expected.selections, cache="bf16")
    report.bf16_rows = float((expected.errors(logits) > TOLERANCE[dtype]).mean())


def judge_error(report, errors, tolerance):
    report.error = errors.max()
    if not report.error <= tolerance:
        beyond = (~(errors <= tolerance)).sum()
        report.failures.append(f"{beyond} of {len(errors)} positions beyond {tolerance:g}")


def check_backends(report, ours, reference, expected):
    a, _ = ours.run(forced=expected.selections)
    b, _ = reference.run(forced=expected.selections)
    error = row_errors(a, b).max()
    if not error <= BACKEND_TOLERANCE:
        report.failures.append(f"{error:.1e} from the reference backend")


def check_bits(report, ours, whole):
    """Any chunking and any number of threads: the same bits."""
    threads_and_chunks = [(), ("--threads", 2)]
    threads_and_chunks += [("--chunk-size", size, "--threads", 2) for size in (1, 7, 64)]
    for options in threads_and_chunks:
        expect_bits(report, ours.run(*options), whole, options)
    options = ("--kv-cache-dtype", "bf16")
    rounded = ours.run("--chunk-size", len(whole[0]), cache="bf16")
    expect_bits(report, ours.run("--chunk-size", 7, cache="bf16"), rounded, options)


def expect_bits(report, run, whole, options):
    name = " ".join(map(str, options)) or "defaults"
    if not np.array_equal(run[1], whole[1]):
        report.failures.append(f"{name}: other selections")
    if run[0].tobytes() != whole[0].tobytes():
        report.failures.append(f"{name}: other bits")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="build/bin/indexshare")
    parser.add_argument("--backend", choices=("cpu", "reference"), default="cpu")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--live", action="store_true", help="ask transformers (needs torch)")
    source.add_argument("--golden", type=Path, default=GOLDEN, metavar="DIR")
    parser.add_argument("--random", type=int, metavar="N", help="N random ones (with --live)")
    parser.add_argument("--seed", type=int, default=0, help="of the random ones")
    parser.add_argument("names", nargs="*", help="configurations, all by default")
    arguments = parser.parse_args()
    if arguments.random and not arguments.live:
        parser.error("--random needs --live: no golden files belong to random configurations")
    return arguments


def main():
    arguments = parse_arguments()
    print(HEADING)
    failed = passed = 0
    configurations = find(arguments.names)
    if arguments.random:
        configurations = random_configurations(arguments.random, arguments.seed)
    for configuration in configurations:
        with tempfile.TemporaryDirectory() as folder:
            report = compare(configuration, arguments, folder)
        print(report, flush=True)
        failed += bool(report.failures)
        passed += not report.failures
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
