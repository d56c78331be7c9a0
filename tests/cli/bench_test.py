#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench: one row a context and plan, in the format scripts read."""

import unittest

from program import BAD_MODEL, ProgramTest, make_checkpoint

SMALL = ("--prefill-tokens", 16, "--decode-tokens", 4)
KEYS = "context plan prefill decode rss_bytes cost_only kv_cache_dtype index_cache_dtype".split()


def flops(row, part="total"):
    return row["prefill"]["flops_by_part"][part] + row["decode"]["flops_by_part"][part]


class Bench(ProgramTest):
    def bench(self, model, *arguments):
        return self.run_json("bench", model, *SMALL, *arguments)["results"]

    def test_rows(self):
        rows = self.bench(self.model, "--context", "32,128")
        self.assertEqual([(row["context"], row["plan"]) for row in rows],
                         [(32, "shared"), (32, "every_layer"), (128, "shared"), (128, "every_layer")])  # fmt: skip
        for row in rows:
            for key in KEYS:
                self.assertIn(key, row)
            self.assertEqual(row["cost_only"], row["plan"] == "every_layer")
            layers = 4 if row["plan"] == "shared" else 8
            self.assertEqual(row["prefill"]["indexer_passes"], layers)
            self.assertEqual(row["decode"]["indexer_passes"], 4 * layers)
            self.assertGreater(row["rss_bytes"], 1 << 20)
            for phase, tokens in (("prefill", 16), ("decode", 4)):
                self.check_phase(row[phase], tokens)
        self.assertGreater(flops(rows[1]), flops(rows[0]))
        self.assertGreater(flops(rows[2]), flops(rows[0]))

    def check_phase(self, phase, tokens):
        self.assertEqual(phase["tokens"], tokens)
        self.assertEqual(len(phase["seconds"]), 3)
        self.assertGreater(phase["slowest_tokens_per_s"], 0)
        self.assertLessEqual(phase["slowest_tokens_per_s"], phase["tokens_per_s"])
        self.assertLessEqual(phase["tokens_per_s"], phase["fastest_tokens_per_s"])
        parts = phase["seconds_by_part"]
        self.assertTrue(all(seconds > 0 for seconds in parts.values()), parts)
        self.assertLessEqual(sum(parts.values()), phase["seconds"][0])

    def test_breakdown(self):
        result = self.run_program(
            "bench", self.model, *SMALL, "--context", "32", "--breakdown", "--repeat", "1"
        )
        for part in ("projections", "index selection", "attention", "MLP", "head"):
            self.assertIn(part, result.stdout)

    def test_random_rows_cost_what_a_true_prefill_costs(self):
        random, = self.bench(self.model, "--context", "64", "--plan", "shared")  # fmt: skip
        true, = self.bench(self.model, "--context", "64", "--plan", "shared", "--fill", "prefill")  # fmt: skip
        self.assertEqual(flops(random), flops(true))
        self.assertEqual((random["fill"], true["fill"]), ("random", "prefill"))

    def test_flops_are_those_that_inspect_predicts(self):
        depth = 64  # beyond index_topk: every visible key is scored
        arguments = ("--context", depth, "--prefill-tokens", 1, "--decode-tokens", 3)
        rows = self.run_json("bench", self.model, *arguments)["results"]
        inspected = self.run_json(
            "inspect", self.model, "--context", f"{depth + 1},{depth + 2},{depth + 3}"
        )
        decode = [cost["decode"] for cost in inspected["flops_absorbed"]]
        head = 2 * inspected["hidden_size"] * inspected["vocab_size"]
        for row in rows:
            self.assertEqual(
                flops(row, "head"), head * (1 + 3)
            )  # the prefill's last row, each token
            prefill, first, *others = [decode[i][row["plan"]] for i in (0, 0, 1, 2)]
            self.assertEqual(flops(row), prefill + first + sum(others))

    def test_a_checkpoint_with_all_indexers_is_no_cost_only(self):
        folder = self.folder / "all"
        make_checkpoint(folder, "--all-indexers")
        row, = self.bench(folder, "--context", "32", "--plan", "every_layer")  # fmt: skip
        self.assertFalse(row["cost_only"])

    def test_table_and_flags_passed_on(self):
        done = self.run_program("bench", self.model, "--context", "0", *SMALL, "--threads", 1)
        self.assertIn("| context | plan ", done.stdout)
        self.assertIn("cost only", done.stdout)
        self.assertEqual(len(done.stdout.splitlines()), 7)

    def test_a_row_that_fails_ends_with_its_code(self):
        self.assert_error("nowhere", "bench", self.folder / "nowhere", code=BAD_MODEL)


if __name__ == "__main__":
    unittest.main()
