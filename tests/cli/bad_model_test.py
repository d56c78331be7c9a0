#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Models that are missing, broken or too large: exit codes 3 and 4."""

import json
import shutil
import subprocess
import unittest

from program import BAD_MODEL, OUT_OF_RESOURCE, PROGRAM, ProgramTest

NEEDING_WEIGHTS = {
    "generate": ("-p", "x"),
    "chat": (),
    "perplexity": ("-p", "some text"),
    "bench": ("--context", "16"),
}


class BadModel(ProgramTest):
    def broken(self, name, edit):
        """A copy of the checkpoint that `edit` has changed."""
        folder = self.folder / name
        shutil.copytree(self.model, folder)
        edit(folder)
        return folder

    def edit_config(self, **values):
        def edit(folder):
            path = folder / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

        return edit

    def test_nothing_there(self):
        missing = self.folder / "nowhere"
        for verb, arguments in {**NEEDING_WEIGHTS, "inspect": (), "tokenize": ("-p", "x")}.items():
            self.assert_error("nowhere", verb, missing, *arguments, code=BAD_MODEL)

    def test_a_directory_without_config(self):
        empty = self.folder / "empty"
        empty.mkdir()
        for verb, arguments in {**NEEDING_WEIGHTS, "inspect": ()}.items():
            self.assert_error("config.json", verb, empty, *arguments, code=BAD_MODEL)

    def test_an_unknown_family(self):
        folder = self.broken("family", self.edit_config(model_type="llama"))
        for verb, arguments in {**NEEDING_WEIGHTS, "inspect": ()}.items():
            self.assert_error(["model_type", "llama"], verb, folder, *arguments, code=BAD_MODEL)

    def test_missing_weights(self):
        folder = self.broken("weights", lambda path: (path / "model.safetensors").unlink())
        self.run_program("generate", folder, "-p", "x", code=BAD_MODEL)
        self.run_program("inspect", folder)  # needs config.json alone

    def test_a_truncated_checkpoint(self):
        def truncate(folder):
            path = folder / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-7])

        folder = self.broken("truncated", truncate)
        self.assert_error("model.safetensors", "generate", folder, "-p", "x", code=BAD_MODEL)

    def test_a_git_lfs_pointer_in_place_of_a_file(self):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"
        for name in (
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
        ):
            folder = self.broken(f"lfs {name}", lambda path: None)
            (folder / name).write_text(pointer)
            self.assert_error(
                [str(folder / name), "git-lfs pointer", "git lfs pull"],
                *("generate", folder, "-p", "x"),
                code=BAD_MODEL,
            )

    def test_no_tokenizer(self):
        folder = self.broken("tokenizer", lambda path: (path / "tokenizer.json").unlink())
        for verb in ("generate", "tokenize", "perplexity"):
            self.assert_error("tokenizer.json", verb, folder, "-p", "x y", code=BAD_MODEL)

    def test_no_chat_template(self):
        self.assert_error("template", "chat", self.model, code=BAD_MODEL)
        self.assert_error("template", "generate", self.model, "--chat", "-p", "x", code=BAD_MODEL)

    def test_a_cache_that_cannot_fit_is_refused_with_numbers(self):
        folder = self.broken("long", self.edit_config(max_position_embeddings=1 << 30))
        arguments = ("-p", "x", "--max-tokens", 1 << 29, "--ctx-size", 1 << 30)
        done = self.run_program("generate", folder, *arguments, code=OUT_OF_RESOURCE)
        self.assertRegex(done.stderr, r"\d")

    def test_a_backend_that_was_not_built(self):
        self.assert_error(
            "CUDA", "generate", self.model, "-p", "x", "--backend", "cuda", code=OUT_OF_RESOURCE
        )

    def test_malformed_overrides(self):
        for overrides in ("{", "[]", '{"index_topk_freq": 0}'):
            arguments = ("-p", "x", "--hf-overrides", overrides)
            done = self.run_program_any("generate", self.model, *arguments)
            self.assertIn(done.returncode, (2, 3), done.stderr)

    def run_program_any(self, *arguments):
        return subprocess.run(
            [PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False
        )


if __name__ == "__main__":
    unittest.main()
