# SPDX-License-Identifier: Apache-2.0
"""What the oracle says about a configuration: run now, or read from a golden file."""

import glob
import hashlib
import os
from dataclasses import dataclass

import numpy as np
from scoring import NEAR_TIE

_MAX_KEPT_LOGITS = 8192  # of one golden file: all rows, some columns


@dataclass
class Expected:
    logits: np.ndarray  # [n, num_columns] f32
    columns: np.ndarray  # [num_columns], of the vocabulary
    largest: np.ndarray  # [n] f32, max |logit| over the whole vocabulary
    selections: np.ndarray  # [num_full_layers, n, width] int32
    near_ties: np.ndarray  # [num_full_layers, n] bool: too close to call, exact zeros apart
    digest: str  # of the checkpoint and the tokens

    def errors(self, logits):
        """logits [n, vocab] -> max |difference| / max |logit| by row, [n]."""
        difference = np.abs(logits[:, self.columns].astype(np.float64) - self.logits).max(-1)
        finite = np.isfinite(logits).all(-1)
        return np.where(finite, difference, np.inf) / self.largest


def ask_oracle(configuration, folder, tokens):
    from oracle import run_oracle  # needs torch; golden comparisons must not

    result = run_oracle(folder, tokens, overrides=configuration.overrides)
    near = (result.gaps <= NEAR_TIE) & ~result.plateaus
    columns = np.arange(result.logits.shape[1])
    largest = np.abs(result.logits).max(-1)
    return Expected(result.logits, columns, largest, result.selections, near, digest(folder))


def save_golden(path, expected):
    """Keeps every row, and as many columns as fit."""
    n, vocab = expected.logits.shape
    kept = np.linspace(0, vocab - 1, min(vocab, _MAX_KEPT_LOGITS // n)).astype(np.int32)
    np.savez_compressed(
        path,
        logits=expected.logits[:, kept],
        columns=kept,
        largest=expected.largest,
        selections=expected.selections.astype(np.int16),
        near_ties=expected.near_ties,
        digest=expected.digest,
    )


def load_golden(path):
    with np.load(path) as file:
        return Expected(
            file["logits"],
            file["columns"],
            file["largest"],
            file["selections"].astype(np.int32),
            file["near_ties"],
            str(file["digest"]),
        )


def digest(folder):
    """SHA-256 of the weights and tokens: golden values belong to these bytes only."""
    result = hashlib.sha256()
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with open(path, "rb") as file:
            result.update(file.read())
    result.update(np.load(os.path.join(folder, "tokens.npy")).astype("<i4").tobytes())
    return result.hexdigest()
