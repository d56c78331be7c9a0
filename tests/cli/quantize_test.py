#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""quantize: sizes, errors, the comparison with the original, and destinations that are refused."""

import resource
import shutil
import signal
import subprocess
import time
import unittest

from program import BAD_MODEL, FAILURE, INTERRUPTED, PROGRAM, ROOT, ProgramTest, make_checkpoint


class Quantize(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = cls.folder / "text.txt"
        cls.text.write_text("The quick brown fox jumps over the lazy dog. " * 3)

    def left_behind(self):
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith("."))

    def test_sizes_and_errors(self):
        for weights, ratio in (("int8", 0.35), ("int4", 0.3)):
            out = self.folder / f"out-{weights}"
            result = self.run_json("quantize", self.model, out, "--weights", weights)
            self.assertEqual(result["weights"], weights)
            self.assertLess(result["bytes_after"], (ratio + 0.15) * result["bytes_before"])
            kinds = {kind["kind"]: kind for kind in result["kinds"]}
            self.assertEqual(kinds["attention"]["format"], weights)
            self.assertEqual(kinds["head"]["format"], "int8")
            self.assertEqual(kinds["kept"]["relative_rms_error"], 0)
            inspected = self.run_json("inspect", out)
            self.assertEqual(inspected["weights"]["bytes"], result["bytes_after"])
            self.run_program(
                "generate", out, "-p", "x", "--max-tokens", "2", "--backend", "reference"
            )
            self.assert_error(
                ["quantization_config", weights], "quantize", out, self.folder / "x", code=BAD_MODEL
            )
        said = self.run_program("quantize", self.model, self.folder / "table").stdout
        for word in ("attention", "experts", "as stored", "relative error", "int8"):
            self.assertIn(word, said)

    def test_comparison_with_the_original(self):
        # A trained model: a random one is chaotic, and answers differently after the least change.
        model, out = ROOT / "models" / "indexshare-tiny", self.folder / "compared"
        arguments = ("--check", self.text, "--ctx", "64")
        result = self.run_json("quantize", model, out, *arguments)["check"]
        perplexity = ("perplexity", model, "-f", self.text, "--ctx", "64", "--ppl-stride", "63")
        exact = ("--kv-cache-dtype", "f32", "--activation-bits", "32")
        expected = self.run_json(*perplexity, *exact)
        self.assertGreater(result["scored_tokens"], 20)
        self.assertGreater(result["kl_divergence"], 0)
        self.assertLess(result["kl_divergence"], 0.1)
        self.assertGreater(result["same_top_token"], 0.7)
        self.assertAlmostEqual(result["perplexity"] / result["original_perplexity"], 1, delta=0.2)
        if expected["windows"] == 1:
            self.assertAlmostEqual(
                result["original_perplexity"] / expected["perplexity"], 1, delta=1e-4
            )
        coarse = ("--force", "-q", "--weights", "int4", "--activation-bits", "8", *arguments)
        worse = self.run_json("quantize", model, out, *coarse)["check"]
        self.assertGreater(worse["kl_divergence"], result["kl_divergence"])
        said = self.run_program("quantize", model, out, *coarse).stdout
        self.assertIn("the same likeliest token for", said)
        self.assertIn("int4 weights, 8-bit activations", said)

    def test_flags_that_would_be_ignored(self):
        for flag, value in (
            ("--ctx", "64"),
            ("--activation-bits", "8"),
            ("--kv-cache-dtype", "int8"),
        ):
            self.assert_error(
                [flag, "--check"], "quantize", self.model, self.folder / "o", flag, value
            )

    def test_an_empty_text_to_check_is_refused_before_anything_is_written(self):
        empty, out = self.folder / "empty.txt", self.folder / "unchecked"
        empty.write_text("")
        self.assert_error(["--check", "empty.txt"], "quantize", self.model, out, "--check", empty)
        self.assertFalse(out.exists())

    def test_refused_destinations(self):
        full = self.folder / "full"
        full.mkdir()
        (full / "notes").write_text("mine")
        self.assert_error(["full", "--force"], "quantize", self.model, full)
        self.assert_error(["config.json"], "quantize", self.model, full, "--force")
        self.assert_error(["outside the model"], "quantize", self.model, self.model / "out")
        self.assert_error(["outside the model"], "quantize", self.model, self.model, "--force")
        self.assert_error(["holds"], "quantize", self.model, self.folder, "--force")
        self.assert_error(["nowhere"], "quantize", self.model, self.folder / "nowhere" / "out")
        self.assert_error(["OUT"], "quantize", self.model)
        self.assert_error(["--weights", "int3"], "quantize", self.model, "o", "--weights", "int3")
        self.assertEqual((full / "notes").read_text(), "mine")
        self.assertEqual(self.left_behind(), [])

    def test_a_file_that_cannot_be_written_leaves_nothing_behind(self):
        done = subprocess.run(
            [PROGRAM, "quantize", self.model, self.folder / "limited"],
            capture_output=True,
            text=True,
            check=False,
            restore_signals=False,  # SIGXFSZ stays ignored: the write fails instead
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        )
        self.assertEqual(done.returncode, FAILURE, done.stderr)
        self.assertIn("model.safetensors: cannot be written: File too large", done.stderr)
        self.assertFalse((self.folder / "limited").exists())
        self.assertEqual(self.left_behind(), [])

    def test_an_interrupt_leaves_nothing_behind(self):
        large = self.folder / "large"
        make_checkpoint(large, "--set", "n_routed_experts=512", dtype="bf16")
        out = self.folder / "interrupted"
        command = [PROGRAM, "quantize", large, out, "--weights", "int4", "-t", "1"]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            while process.poll() is None and not self.left_behind():
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED)
        self.assertFalse(out.exists())
        self.assertEqual(self.left_behind(), [])
        shutil.rmtree(large)


if __name__ == "__main__":
    unittest.main()
