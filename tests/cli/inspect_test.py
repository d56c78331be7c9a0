#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""inspect: the numbers of GLM-5.2 from its config.json alone."""

import json
import unittest

from program import ROOT, ProgramTest, make_checkpoint

CONFIG = ROOT / "tests" / "fixtures" / "configs" / "glm-5.2.json"
FULL_LAYERS = [0, 1, *range(2, 78, 4)]


class Inspect(ProgramTest):
    checkpoint = False

    def inspect(self, *arguments):
        return self.run_json("inspect", CONFIG, *arguments)

    def test_the_share_plan(self):
        result = self.inspect()
        self.assertEqual(result["full_layers"], FULL_LAYERS)
        self.assertEqual(len(FULL_LAYERS), 21)
        self.assertEqual(result["source"][:8], [0, 1, 2, 2, 2, 2, 6, 6])
        self.assertEqual(result["pattern"][:8], "FFFSSSFS")

    def test_cache_bytes(self):
        bytes_per_token = {
            "mla": 78 * 576 * 2,
            "index_keys": 21 * 128 * 2,
            "index_keys_every_layer": 78 * 128 * 2,
        }
        self.assertEqual(self.inspect()["cache_bytes_per_token"], bytes_per_token)
        doubled = {key: 2 * value for key, value in bytes_per_token.items()}
        self.assertEqual(self.inspect("--kv-cache-dtype", "f32")["cache_bytes_per_token"], doubled)

    def test_cache_bytes_by_format(self):
        result = self.inspect("--kv-cache-dtype", "bf16", "--index-cache-dtype", "int8")
        self.assertEqual(result["index_cache_dtype"], "int8")
        by_format = result["cache_bytes_per_token_by_dtype"]
        self.assertEqual(list(by_format), ["f32", "bf16", "int8"])
        # 512 codes, four scales and 64 values in bf16; 128 codes and a scale.
        self.assertEqual(by_format["int8"]["mla"], 78 * (512 + 16 + 128))
        self.assertEqual(by_format["int8"]["index_keys"], 21 * (128 + 4))
        taken = result["cache_bytes_per_token"]
        self.assertEqual(taken["mla"], by_format["bf16"]["mla"])
        self.assertEqual(taken["index_keys"], by_format["int8"]["index_keys"])

    def test_flops_at_a_million_tokens(self):
        result = self.inspect("--context", "4096,131072,1048576")
        self.assertEqual([row["context"] for row in result["flops"]], [4096, 131072, 1048576])
        last, absorbed = result["flops"][-1], result["flops_absorbed"][-1]
        self.assertAlmostEqual(last["decode"]["every_layer"] / 1e9, 762.1, delta=0.1)
        self.assertAlmostEqual(last["decode"]["shared"] / 1e9, 271.5, delta=0.1)
        self.assertAlmostEqual(last["decode"]["ratio"], 2.81, delta=0.005)
        self.assertAlmostEqual(absorbed["decode"]["ratio"], 2.73, delta=0.005)
        self.assertAlmostEqual(last["prefill"]["ratio"], 2.37, delta=0.005)

    def test_a_pattern_imposed(self):
        overrides = json.dumps({"index_topk_pattern": "F" + "S" * 77})
        result = self.inspect("--hf-overrides", overrides)
        self.assertEqual(result["full_layers"], [0])

    def test_a_table_for_people(self):
        said = self.run_program("inspect", CONFIG, "--context", "1048576").stdout
        for word in (
            "glm_moe_dsa",
            "21 full layers",
            "FFFSSSFSSS",
            "89,856",
            "2.81",
            "2.37",
            "762 G",
        ):
            self.assertIn(word, said)

    def test_a_fixed_pattern_in_force_is_said(self):
        self.assertIsNone(self.inspect()["index_fixed_pattern"])
        self.assertNotIn("fixed pattern", self.run_program("inspect", CONFIG).stdout)
        flags = ("--window", 4096, "--sinks", 4, "--stride", 512, "--stride-phase", 7)
        flags += ("--stride-cap", 9, "--pattern-mode", "union")
        self.assertEqual(
            self.inspect(*flags)["index_fixed_pattern"],
            {"window": 4096, "sinks": 4, "stride": 512, "stride_phase": 7, "stride_cap": 9,
             "mode": "union"},
        )  # fmt: skip
        said = self.run_program("inspect", CONFIG, *flags).stdout
        line, = (line for line in said.splitlines() if line.startswith("fixed pattern"))  # fmt: skip
        for part in ("last 4,096", "first 4", "every 512 from 7", "latest 9", "union"):
            self.assertIn(part, line)
        overrides = json.dumps({"index_fixed_pattern": {"window": 64}})
        result = self.inspect("--hf-overrides", overrides)["index_fixed_pattern"]
        self.assertEqual((result["window"], result["mode"]), (64, "fill"))
        self.assertIn("last 64", self.run_program("inspect", CONFIG, "--window", 64).stdout)

    def test_weights_that_do_not_match_the_config(self):
        model = self.folder / "model"
        make_checkpoint(model, "--all-indexers")
        surplus = self.run_json("inspect", model)
        self.assertIn("indexer tensors of 4 shared layers", surplus["notes"][-1])
        every_layer = ("--hf-overrides", '{"index_topk_pattern":"FFFFFFFF"}')
        self.assertNotIn("indexer tensors", self.run_program("inspect", model, *every_layer).stdout)
        make_checkpoint(self.folder / "lacking")
        arguments = ("inspect", self.folder / "lacking", *every_layer)
        missing = self.run_json(*arguments)
        line = f"{len(missing['weights']['missing_tensors'])} tensors are missing, the first is "
        self.assertIn(line + "model.layers.3.self_attn.indexer.", missing["notes"][-1])
        self.assertIn("note: " + missing["notes"][-1], self.run_program(*arguments).stdout)

    def test_the_cache_is_bf16_unless_asked(self):
        said = self.run_program("inspect", "--help").stdout
        self.assertIn("auto: bf16 [bf16]", " ".join(said.split()))
        self.assertEqual(self.inspect()["kv_cache_dtype"], "bf16")

    def test_a_context_beyond_all_bounds(self):
        self.assert_error("--context", "inspect", CONFIG, "--context", 1 << 31)


if __name__ == "__main__":
    unittest.main()
