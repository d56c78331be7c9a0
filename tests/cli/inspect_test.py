#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""inspect: the numbers of GLM-5.2 from its config.json alone."""

import json
import unittest

from program import ProgramTest

# GLM-5.2's shapes.
CONFIG = {
    "architectures": ["GlmMoeDsaForCausalLM"],
    "model_type": "glm_moe_dsa",
    "vocab_size": 154880,
    "hidden_size": 6144,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 78,
    "num_nextn_predict_layers": 1,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "q_lora_rank": 2048,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "qk_head_dim": 256,
    "v_head_dim": 256,
    "attention_bias": False,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "n_group": 1,
    "topk_group": 1,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_parameters": {"rope_theta": 8000000, "rope_type": "default"},
    "rope_interleave": True,
    "max_position_embeddings": 1048576,
    "tie_word_embeddings": False,
    "index_n_heads": 32,
    "index_head_dim": 128,
    "index_topk": 2048,
    "indexer_rope_interleave": True,
    "index_topk_freq": 4,
    "index_skip_topk_offset": 3,
    "eos_token_id": [154820, 154827, 154829],
    "dtype": "bfloat16",
}
FULL_LAYERS = [0, 1, *range(2, 78, 4)]


class Inspect(ProgramTest):
    checkpoint = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config = cls.folder / "config.json"
        cls.config.write_text(json.dumps(CONFIG))

    def inspect(self, *arguments):
        return self.run_json("inspect", self.config, *arguments)

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
        said = self.run_program("inspect", self.config, "--context", "1048576").stdout
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

    def test_a_context_beyond_all_bounds(self):
        self.assert_error("--context", "inspect", self.config, "--context", 1 << 31)


if __name__ == "__main__":
    unittest.main()
