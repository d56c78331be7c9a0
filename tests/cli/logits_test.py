#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""logits: .npy files read strictly and written whole or not at all, selections dumped and forced."""

import json
import struct
import unittest

import numpy as np
from program import ProgramTest, make_checkpoint

TOKENS = np.arange(40) % 256
VOCAB, TOPK, NUM_FULL = 320, 8, 4


class Logits(ProgramTest):
    def save(self, name, array):
        np.save(self.folder / name, array)
        return self.folder / name

    def arguments(self, tokens, output="out.npy"):
        return ("logits", self.model, "--tokens", tokens, "--output", self.folder / output)

    def logits(self, tokens, *flags):
        self.run_program(*self.arguments(tokens), *flags)
        return np.load(self.folder / "out.npy")

    def left_behind(self):
        return [path.name for path in self.folder.iterdir() if ".tmp" in path.name]

    def test_shape_and_type(self):
        logits = self.logits(self.save("t.npy", TOKENS))
        self.assertEqual((logits.dtype, logits.shape), (np.float32, (len(TOKENS), VOCAB)))
        self.assertTrue(np.isfinite(logits).all())
        self.assertEqual(self.left_behind(), [])

    def test_any_integer_type_and_order(self):
        expected = self.logits(self.save("t.npy", TOKENS.astype("<i8")))
        for dtype in ("<i2", "<u2", ">i2", "<i4", ">i4", "<u4", ">u8", "u1"):
            found = self.logits(self.save("t.npy", TOKENS.astype(dtype)))
            np.testing.assert_array_equal(found, expected, dtype)

    def test_versions_of_the_format(self):
        expected = self.logits(self.save("t.npy", TOKENS))
        for version in ((2, 0), (3, 0)):
            path = self.folder / "version.npy"
            with path.open("wb") as file:
                np.lib.format.write_array(file, TOKENS, version=version)
            np.testing.assert_array_equal(self.logits(path), expected)

    def test_neither_chunks_nor_threads_change_a_bit(self):
        tokens = self.save("t.npy", TOKENS)
        expected = self.logits(tokens).tobytes()
        for flags in (("--chunk-size", 1), ("--chunk-size", 7, "--threads", 2)):
            self.assertEqual(self.logits(tokens, *flags).tobytes(), expected)

    def test_files_that_are_no_token_lists(self):
        good = self.save("good.npy", TOKENS).read_bytes()
        header = "{'descr': '<i8', 'fortran_order': False, 'shape': (%s), }"

        def with_header(text, data=b""):
            encoded = text.encode()
            return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + data

        cases = {
            "empty": b"",
            "no magic": b"hello, this is no array",
            "truncated in its header": good[:20],
            "bytes of data": good[:-1],
            "bytes of data, the": good + b"\x00",
            "unknown .npy version": good[:6] + b"\x09" + good[7:],
            "dimension": with_header(header % "2, 3", bytes(48)),
            "beyond all bounds": with_header(header % "99999999999999999999,"),
            "holds no tokens": with_header(header % "0,"),
            "malformed": with_header("{'descr': '<i8', 'fortran_order': False, 'shape': (1,"),
            "lacks": with_header("{'descr': '<i8'}"),
            "unknown or repeated": with_header("{'descr': '<i8', 'descr': '<i8'}"),
            "text behind": with_header((header % "1,") + "; import os", bytes(8)),
        }
        for words, content in cases.items():
            path = self.folder / "bad.npy"
            path.write_bytes(content)
            expected = ["bad.npy"] if words in ("empty", "no magic") else ["bad.npy", words]
            self.assert_error(expected, *self.arguments(path))

    def test_arrays_of_the_wrong_kind(self):
        wrong = {
            "integers": [TOKENS.astype("f4"), TOKENS.astype(bool), TOKENS.astype("c8")],
            "dimension": [TOKENS.reshape(4, 10), np.int64(3)],
            "element 1 is": [np.array([1, -1]), np.array([1, VOCAB]), np.array([1, 1 << 40])],
        }
        for words, arrays in wrong.items():
            for array in arrays:
                self.assert_error(words, *self.arguments(self.save("wrong.npy", array)))
        self.assertEqual(self.left_behind(), [])

    def test_an_output_that_cannot_be_written(self):
        tokens = self.save("t.npy", TOKENS)
        self.assert_error("cannot write", *self.arguments(tokens, "missing/out.npy"))
        self.run_program("logits", self.model, "--tokens", tokens, "--output", "/dev/null")

    def test_a_failure_keeps_the_old_output(self):
        tokens = self.save("t.npy", TOKENS)
        path = self.folder / "kept.npy"
        path.write_bytes(b"old")
        bad = self.save("forced.npy", np.full((NUM_FULL, len(TOKENS), TOPK), 99, np.int32))
        self.assert_error(
            "forced.npy", *self.arguments(tokens, "kept.npy"), "--force-selections", bad
        )
        self.assertEqual(path.read_bytes(), b"old")
        self.assertEqual(self.left_behind(), [])

    def dump(self, tokens, *flags):
        path = self.folder / "selections.npy"
        logits = self.logits(tokens, "--dump-selections", path, *flags)
        return logits, np.load(path)

    def test_dumped_selections(self):
        _, selections = self.dump(self.save("t.npy", TOKENS), "--chunk-size", 16)
        self.assertEqual(selections.dtype, np.int32)
        self.assertEqual(selections.shape[:2], (NUM_FULL, len(TOKENS)))
        for rows in selections:
            for position, row in enumerate(rows):
                chosen = row[row >= 0]
                self.assertEqual(len(chosen), min(position + 1, TOPK))
                self.assertTrue((np.diff(chosen) > 0).all() and chosen[-1] <= position)
                self.assertTrue((row[len(chosen) :] == -1).all())

    def test_forcing_what_was_chosen_changes_nothing(self):
        tokens = self.save("t.npy", TOKENS)
        logits, selections = self.dump(tokens)
        forced = self.save("forced.npy", selections)
        same = self.logits(tokens, "--force-selections", forced)
        self.assertEqual(same.tobytes(), logits.tobytes())
        wider = np.pad(selections, ((0, 0), (0, 0), (0, 5)), constant_values=-1)
        forced = self.save("forced.npy", wider.astype(np.int64))
        same = self.logits(tokens, "--force-selections", forced)
        self.assertEqual(same.tobytes(), logits.tobytes())

    def test_forcing_other_positions_changes_the_logits(self):
        tokens = self.save("t.npy", TOKENS)
        logits, selections = self.dump(tokens)
        forced = np.full_like(selections, -1)
        forced[:, :, 0] = np.arange(len(TOKENS))  # each position sees itself alone
        found = self.logits(tokens, "--force-selections", self.save("forced.npy", forced))
        np.testing.assert_array_equal(found[0], logits[0])
        self.assertGreater(np.abs(found[-1] - logits[-1]).max(), 0)

    def test_no_selections_where_no_indexer_runs(self):
        tokens = self.save("t.npy", TOKENS)
        forced = self.save("forced.npy", np.zeros((0, len(TOKENS), TOPK), np.int32))
        fixed = json.dumps({"index_topk": 0, "index_fixed_pattern": {"window": 4}})
        for flags in (("--attention", "dense"), ("--hf-overrides", fixed)):
            for flag in ("--dump-selections", "--force-selections"):
                path = forced if flag == "--force-selections" else self.folder / "none.npy"
                self.assert_error(flag, *self.arguments(tokens, "none.out"), flag, path, *flags)
            self.logits(tokens, *flags)
        self.assertFalse((self.folder / "none.npy").exists())
        self.assertFalse((self.folder / "none.out").exists())
        self.assertEqual(self.left_behind(), [])

    def test_the_cache_is_f32_unless_asked(self):
        model = self.folder / "bf16"
        make_checkpoint(model, dtype="bf16")
        tokens = self.save("t.npy", TOKENS)

        def logits(*flags):
            out = self.folder / "bf16.npy"
            self.run_program("logits", model, "--tokens", tokens, "--output", out, *flags)
            return out.read_bytes()

        self.assertEqual(logits(), logits("--kv-cache-dtype", "f32"))
        self.assertNotEqual(logits(), logits("--kv-cache-dtype", "bf16"))
        self.assertEqual(logits(), logits("--index-cache-dtype", "f32", "--activation-bits", "32"))
        self.assertNotEqual(logits(), logits("--index-cache-dtype", "int8"))
        said = self.run_program("logits", "--help").stdout
        self.assertIn("[f32]", said[said.index("--kv-cache-dtype") :].split("--attention")[0])

    def test_forced_selections_that_are_no_sets_of_visible_positions(self):
        tokens = self.save("t.npy", TOKENS)
        _, good = self.dump(tokens)
        edits = {
            "descending": lambda a: (
                a[0, 20].sort() or a[0, 20].__setitem__(slice(None), a[0, 20][::-1].copy())
            ),
            "twice": lambda a: a[1, 20].__setitem__(1, a[1, 20, 0]),
            "future": lambda a: a[2, 20].__setitem__(7, 21),
            "padding first": lambda a: a[3, 20].__setitem__(0, -1),
            "below -1": lambda a: a[0, 20].__setitem__(0, -2),
            "empty": lambda a: a[0, 20].fill(-1),
        }
        for name, edit in edits.items():
            array = good.copy()
            edit(array)
            forced = self.save("forced.npy", array)
            with self.subTest(name):
                self.assert_error(
                    "forced.npy", *self.arguments(tokens), "--force-selections", forced
                )
        short = self.save("forced.npy", good[:, :-1])
        self.assert_error("forced.npy", *self.arguments(tokens), "--force-selections", short)


if __name__ == "__main__":
    unittest.main()
