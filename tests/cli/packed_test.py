#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints quantised elsewhere: the program must compute with exactly what their codes stand for."""

import json
import shutil
import sys
import unittest

import numpy as np
from program import BAD_MODEL, ROOT, ProgramTest, make_checkpoint

sys.path.insert(0, str(ROOT / "tools"))
from checkpoint.number_formats import encode  # noqa: E402
from checkpoint.safetensors_file import Checkpoint, CheckpointWriter  # noqa: E402

from checkpoint import packed_weights as packed  # noqa: E402


class Packed(ProgramTest):
    checkpoint = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.models = {}
        for dtype in ("int8", "int4"):
            cls.models[dtype] = cls.folder / dtype
            make_checkpoint(cls.models[dtype], "--set", "hidden_size=160", dtype=dtype)
        cls.tokens = cls.folder / "tokens.npy"
        np.save(cls.tokens, np.arange(40, dtype=np.int32) * 7 % 256)

    def logits(self, model, *arguments, said=None):
        output = self.folder / "logits.npy"
        arguments = (
            "--tokens",
            self.tokens,
            "--output",
            output,
            "--backend",
            "reference",
            *arguments,
        )
        done = self.run_program("logits", model, *arguments)
        if said is not None:
            self.assertIn(said, done.stderr)
        return np.load(output)

    def plain(self, model):
        """The same values as f32."""
        source, folder = Checkpoint(model), self.folder / f"{model.name}-plain"
        folder.mkdir()
        writer = CheckpointWriter(folder, [(n, source.shape(n), "F32") for n in source.names()])
        for name in source.names():
            writer.write(name, source[name])
        writer.close()
        config = {k: v for k, v in source.config.items() if k != "quantization_config"}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def repacked(self, name, bits, group, scales="F32"):
        """The int8 checkpoint's values packed in another way; a group of None is a whole row."""
        source, folder = Checkpoint(self.models["int8"]), self.folder / name
        folder.mkdir()
        parts = {}
        for n in source.names():
            if n in source._tensors:
                parts[n] = (np.asarray(source.raw(n)), source.stored_dtype(n))
                continue
            columns = source.shape(n)[1]
            codes, factors = packed.quantise(source[n], bits, group or columns)
            parts[n + "_packed"] = (packed.pack(codes, bits), "I32")
            parts[n + "_scale"] = (encode(factors, scales), scales)
            parts[n + "_shape"] = (np.array(source.shape(n), np.int64), "I64")
        writer = CheckpointWriter(
            folder, [(n, a.shape, stored) for n, (a, stored) in parts.items()]
        )
        for n, (array, _) in parts.items():
            writer.write(n, array)
        writer.close()
        config = json.loads(json.dumps(source.config))
        weights = config["quantization_config"]["config_groups"]["group_0"]["weights"]
        weights.update(num_bits=bits, group_size=group, strategy="group" if group else "channel")
        (folder / "config.json").write_text(json.dumps(config))
        return folder, parts

    def dequantised(self, folder, parts, group):
        """A repacked checkpoint as f32."""
        names = [n.removesuffix("_packed") for n in parts if n.endswith("_packed")]
        plain = self.plain(self.models["int8"])
        tensors = Checkpoint(plain)
        values = {n: tensors[n] for n in tensors.names()}
        for n in names:
            (words, _), (factors, stored) = parts[n + "_packed"], parts[n + "_scale"]
            columns = int(parts[n + "_shape"][0][1])
            bits = 8 if words.shape[1] == -(-columns // 4) else 4
            if stored == "BF16":
                factors = (factors.astype(np.uint32) << 16).view(np.float32)
            codes = packed.unpack(words, bits, columns)
            values[n] = packed.dequantise(codes, factors, group or columns)
        writer = CheckpointWriter(plain, [(n, v.shape, "F32") for n, v in values.items()])
        for n, v in values.items():
            writer.write(n, v)
        writer.close()
        moved = plain.rename(folder.with_name(folder.name + "-plain"))
        return moved

    def test_codes_are_what_they_stand_for(self):
        for model in self.models.values():
            np.testing.assert_array_equal(self.logits(model), self.logits(self.plain(model)))
            shutil.rmtree(self.folder / f"{model.name}-plain")

    def test_wider_groups_are_several_of_ours(self):
        for name, bits, group, scales in (
            ("wide-4", 4, 128, "F32"),
            ("channel-8", 8, None, "BF16"),
            ("channel-4", 4, None, "F32"),
        ):
            folder, parts = self.repacked(name, bits, group, scales)
            plain = self.dequantised(folder, parts, group)
            np.testing.assert_array_equal(self.logits(folder), self.logits(plain), name)

    def test_narrower_groups_are_quantised_again_and_it_is_said(self):
        folder, parts = self.repacked("narrow", 4, 32)
        plain = self.dequantised(folder, parts, 32)
        ours = self.logits(folder, said="quantised again")
        np.testing.assert_array_equal(ours, self.logits(plain, "--weights", "int8"))

    def test_another_format_on_request(self):
        for dtype, other in (("int8", "int4"), ("int4", "int8")):
            said = self.logits(self.models[dtype], "--weights", other, said="quantised again")
            self.assertTrue(np.isfinite(said).all())
            self.logits(self.models[dtype], "--weights", dtype)

    def test_the_report_names_the_formats(self):
        for dtype, model in self.models.items():
            arguments = ("-p", "x", "--special", "--max-tokens", "1", "--backend", "reference")
            weights = self.run_json("generate", model, *arguments)["weights"]
            self.assertEqual((weights["format"], weights["activation_bits"]), (dtype, 16))
            self.assertEqual(sum(weights["bytes_by_format"].values()), weights["bytes"])
            inspected = self.run_json("inspect", model)
            self.assertEqual(inspected["weights_dtype"], dtype)
            self.assertEqual(inspected["weights"]["missing_tensors"], [])
            by_format = inspected["weights"]["bytes_by_format"]
            self.assertEqual(sum(by_format.values()), inspected["weights"]["bytes"])
            self.assertIn(dtype, by_format)
            self.assertIn(f" {dtype}", self.run_program("inspect", model).stdout)

    def broken(self, name, edit_config=None, edit_weights=None):
        folder = self.folder / name
        shutil.copytree(self.models["int4"], folder)
        path = folder / "config.json"
        if edit_config:
            config = json.loads(path.read_text())
            edit_config(config)
            path.write_text(json.dumps(config))
        if edit_weights:
            path = folder / "model.safetensors"
            path.write_bytes(edit_weights(path.read_bytes()))
        return folder

    def test_broken_ones(self):
        def weights(config):
            return config["quantization_config"]["config_groups"]["group_0"]["weights"]

        scale, other = b"0.self_attn.o_proj.weight_scale", b"0.self_attn.o_proj.weight_scull"
        cases = {
            "bits": (lambda c: weights(c).update(num_bits=3), None, ["num_bits", "4 or 8", "3"]),
            "asymmetric": (
                lambda c: weights(c).update(symmetric=False),
                None,
                ["symmetric", "true"],
            ),
            "group": (
                lambda c: weights(c).update(group_size=96),
                None,
                ["weight_packed", "groups of 96"],
            ),
            "hidden": (lambda c: c.update(hidden_size=159), None, ["lm_head", "159", "160"]),
            "no config": (lambda c: c.pop("quantization_config"), None, ["quantization_config"]),
            "no scale": (None, lambda b: b.replace(scale, other), ["weight_scale", "none"]),
            "truncated": (None, lambda b: b[:-100], ["model.safetensors", "data_offsets"]),
        }
        self.assertEqual(len(scale), len(other))
        for name, (config, content, words) in cases.items():
            folder = self.broken(name, config, content)
            arguments = ("-p", "x", "--backend", "reference")
            self.assert_error(words, "generate", folder, *arguments, code=BAD_MODEL)


if __name__ == "__main__":
    unittest.main()
