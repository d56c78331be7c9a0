# SPDX-License-Identifier: Apache-2.0
"""How two runs are compared: tolerances, error of a row, selections that differ."""

import numpy as np

NEAR_TIE = 1e-5  # gap between the k-th and the next score, of the largest score
MAX_NEAR_TIES = 1e-3  # of all selections
# int8 and int4 weights are dequantised to the same f32 on both sides, and nothing else is rounded.
TOLERANCE = {"f32": 1e-4, "f16": 2e-2, "bf16": 2e-2, "fp8": 2e-2, "int8": 1e-4, "int4": 1e-4}
BACKEND_TOLERANCE = 1e-3  # between our backends, on rounded weights


def row_errors(logits, expected):
    """[n, vocab] twice -> max |difference| / max |expected logit|, [n]; NaN counts as infinite."""
    difference = np.abs(logits.astype(np.float64) - expected).max(-1)
    return np.where(np.isfinite(difference), difference, np.inf) / np.abs(expected).max(-1)


def recall(selections, expected):
    """Share of the expected positions that were selected; both [layers, n, width], -1 padded."""
    found = total = 0
    width = expected.shape[-1]
    rows = zip(selections.reshape(-1, width), expected.reshape(-1, width), strict=True)
    for ours, theirs in rows:
        theirs = theirs[theirs >= 0]
        found += np.isin(theirs, ours).sum()
        total += len(theirs)
    return found / total


def unexplained(selections, expected, near_ties):
    """How many rows [layers, n] differ with neither a near tie nor an earlier difference to blame.

    A row chosen otherwise changes the hidden state of its token in later layers, and through
    attention that of later tokens.
    """
    differing = (selections != expected).any(-1)
    above = np.zeros(differing.shape[1], bool)
    count = 0
    for layer, near in zip(differing, near_ties, strict=True):
        count += (layer & ~near & ~np.maximum.accumulate(above)).sum()
        above |= layer
    return int(count)
