#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drafting on the command line: the same text, what --json tells, and flags that need each other."""

import unittest

import numpy as np
from program import BAD_MODEL, ProgramTest, make_checkpoint

MTP = ("--set", "num_nextn_predict_layers=1", "--set", "index_share_for_mtp_iteration=true")
SKILL = ("--block-gain", "0.05", "--draft-skill", "0.95")
GREEDY = ("--temp", 0, "--ignore-eos", "-p", "hello world", "-n", 30)


class Drafts(ProgramTest):
    checkpoint = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_checkpoint(cls.model, *MTP, *SKILL)

    def generate(self, *arguments):
        return self.run_json("generate", self.model, *GREEDY, *arguments)

    def test_the_text_stays_and_the_drafts_are_told(self):
        plain = self.generate()
        self.assertNotIn("drafts", plain)
        for flags in ((), ("--no-draft-index-share",)):
            result = self.generate("--draft-tokens", 3, *flags)
            self.assertEqual(result["tokens"], plain["tokens"])
            self.assertEqual((result["draft_tokens"], result["draft_index_share"]), (3, not flags))
            drafts, work = result["drafts"], result["counters"]["drafting"]
            self.assertEqual(len(drafts["acceptance"]), 3)
            self.assertEqual(drafts["proposed"][0], drafts["rounds"])
            self.assertGreater(sum(drafts["accepted"]), 0)
            self.assertAlmostEqual(
                drafts["accepted_length"], 1 + sum(drafts["accepted"]) / drafts["rounds"]
            )
            later = sum(drafts["proposed"][1:])
            first = work["passes"] - later
            self.assertEqual(work["indexer_passes"], work["passes"] if flags else first)
            self.assertLess(
                result["counters"]["forward_passes"], plain["counters"]["forward_passes"]
            )

    def test_the_summary_says_what_was_accepted(self):
        said = self.run_program("generate", self.model, *GREEDY, "--draft-tokens", 2, "-v").stderr
        self.assertRegex(said, r"drafts: \d\.\d\d tokens a round, accepted \d+ % \d+ %")

    def test_a_checkpoint_that_cannot_draft(self):
        other = self.folder / "other"
        make_checkpoint(other)
        self.assert_error(["draft_tokens", "MTP"], "generate", other, *GREEDY, "--draft-tokens", 2)
        self.assert_error(
            "--draft-tokens", "generate", self.model, *GREEDY, "--no-draft-index-share"
        )
        self.assert_error("33", "generate", self.model, *GREEDY, "--draft-tokens", 33)

    def test_a_checkpoint_without_its_mtp_tensors(self):
        broken = self.folder / "broken"
        make_checkpoint(broken)
        config = (broken / "config.json").read_text()
        config = config.replace('"num_nextn_predict_layers": 0', '"num_nextn_predict_layers": 1')
        (broken / "config.json").write_text(config)
        self.run_program("generate", broken, *GREEDY)
        self.assert_error(
            "model.layers.8.enorm.weight",
            *("generate", broken, *GREEDY, "--draft-tokens", 2),
            code=BAD_MODEL,
        )

    def test_logits_of_drafts(self):
        np.save(self.folder / "t.npy", np.arange(20))
        common = ("logits", self.model, "--tokens", self.folder / "t.npy", "-o", "/dev/null")
        drafts = self.folder / "d.npy"
        self.run_program(*common, "--draft-tokens", 3, "--draft-output", drafts)
        found = np.load(drafts)
        self.assertEqual(found.shape, (3, 20, 320))
        known = np.abs(found).max(-1) > 0
        for step in range(3):
            self.assertEqual(list(known[step]), [t + step + 1 < 20 for t in range(20)])
        self.assert_error("--draft-tokens", *common, "--draft-output", drafts)
        self.assert_error("--draft-output", *common, "--draft-tokens", 3)

    def test_bench(self):
        text = self.folder / "text.txt"
        text.write_text("the quick brown fox jumps over the lazy dog. " * 20)
        flags = (
            "--draft-tokens",
            3,
            "--prompt-file",
            text,
            "--context",
            "32,64",
            "--decode-tokens",
            20,
        )
        result = self.run_json("bench", self.model, *flags, "--repeat", 2)
        rows = result["results"]
        self.assertEqual([(r["context"], r["drafts"]) for r in rows],
                         [(c, d) for c in (32, 64) for d in ("off", "shared", "own")])  # fmt: skip
        for row in rows:
            self.assertGreater(row["decode_tokens_per_s"], 0)
            if row["drafts"] == "off":
                self.assertEqual(row["target_passes"], 2 * 19)
                continue
            self.assertTrue(row["same_text_as_without"])
            self.assertEqual(len(row["acceptance"]), 3)
            self.assertLess(row["target_passes"], 2 * 19)
            runs = row["mtp_passes"] if row["drafts"] == "own" else row["target_passes"]
            self.assertLessEqual(row["mtp_indexer_passes"], runs)
        table = self.run_program("bench", self.model, *flags, "--repeat", 1).stdout
        self.assertIn("tokens a round", table)
        for wrong in (("--plan", "shared"), ("--breakdown",), ("--context", 0)):
            self.assert_error(wrong[0], "bench", self.model, *flags, *wrong)
        self.assert_error("--prompt-file", "bench", self.model, "--draft-tokens", 3)
        self.assert_error("at least 5000 tokens", "bench", self.model, *flags, "--context", 5000)


if __name__ == "__main__":
    unittest.main()
