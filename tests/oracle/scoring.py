# SPDX-License-Identifier: Apache-2.0
"""How two runs are compared: tolerances, error of a row, recall of a selection."""

import numpy as np

NEAR_TIE = 1e-5  # gap between the k-th and the next score, of the largest score
MAX_NEAR_TIES = 1e-3  # of all rows
TOLERANCE = {"f32": 1e-4, "f16": 2e-2, "bf16": 2e-2, "fp8": 2e-2}


def row_errors(logits, expected, largest=None):
    """[n, vocab] twice -> max |difference| / max |expected logit|, [n]; not a number counts as infinite."""
    if largest is None:
        largest = np.abs(expected).max(-1)
    difference = np.abs(logits.astype(np.float64) - expected).max(-1)
    return np.where(np.isfinite(difference), difference, np.inf) / largest


def recall(selections, expected):
    """Share of the expected positions that were selected; both [layers, n, width], -1 padded."""
    found = total = 0
    for ours, theirs in zip(selections.reshape(-1, selections.shape[-1]), _rows(expected)):
        theirs = theirs[theirs >= 0]
        found += np.isin(theirs, ours).sum()
        total += len(theirs)
    return found / total


def _rows(selections):
    return selections.reshape(-1, selections.shape[-1])
