#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tokenize, perplexity and chat."""

import json
import math
import os
import pty
import shutil
import subprocess
import unittest
import unittest.mock

import numpy as np
from program import BAD_MODEL, CHAT_TEMPLATE, PROGRAM, USAGE, ProgramTest

TEXT = "It was the best of times, it was the worst of times; é and 漢字 too.\n" * 6


class Tokenize(ProgramTest):
    def test_there_and_back(self):
        tokens = self.run_json("tokenize", self.model, "-p", TEXT)["tokens"]
        self.assertEqual(tokens, list(TEXT.encode()))  # this tokenizer's tokens are bytes
        ids = ",".join(map(str, tokens))
        self.assertEqual(self.run_json("tokenize", self.model, "--decode", ids)["text"], TEXT)
        self.assertEqual(
            self.run_program("tokenize", self.model, "--decode", ids).stdout, TEXT + "\n"
        )

    def test_plain_output_and_counts(self):
        self.assertEqual(self.run_program("tokenize", self.model, "-p", "AB").stdout, "65 66\n")
        self.assertEqual(
            self.run_program("tokenize", self.model, "-p", "AB", "--count").stdout, "2\n"
        )
        self.assertEqual(self.run_json("tokenize", self.model, "-p", "", "--count")["count"], 0)

    def test_an_empty_file_has_no_tokens(self):
        empty = self.folder / "empty.txt"
        empty.touch()
        self.assertEqual(
            self.run_program("tokenize", self.model, "-f", empty, "--count").stdout, "0\n"
        )

    def test_a_name_whose_config_cannot_be_run(self):
        cached = self.folder / "cache" / "hub" / "models--some--name"
        snapshot = cached / "snapshots" / "1234"
        shutil.copytree(self.model, snapshot)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("1234")
        places = {"HF_HOME": str(self.folder / "cache"), "HF_HUB_CACHE": ""}
        with unittest.mock.patch.dict(os.environ, places):
            self.run_program("tokenize", "some/name", "-p", "x")
            (snapshot / "config.json").write_text('{"model_type": "other"}')
            arguments = ("tokenize", "some/name", "-p", "x")
            self.assert_error(["config.json", "a directory needs none"], *arguments, code=BAD_MODEL)
        self.run_program("tokenize", snapshot, "-p", "x")

    def test_ids_that_are_no_tokens(self):
        self.assert_error("--decode", "tokenize", self.model, "--decode", "5,99999")
        self.assert_error("--decode", "tokenize", self.model, "--decode", "-1")
        self.assert_error("--decode", "tokenize", self.model, "--decode", "a")


class Perplexity(ProgramTest):
    def perplexity(self, *flags):
        return self.run_json("perplexity", self.model, "--file", self.path, *flags)

    def setUp(self):
        self.path = self.folder / "text.txt"
        self.path.write_text(TEXT)

    def test_one_window_agrees_with_the_logits(self):
        tokens = np.frombuffer(TEXT.encode(), np.uint8)
        np.save(self.folder / "t.npy", tokens)
        out = self.folder / "out.npy"
        self.run_program("logits", self.model, "--tokens", self.folder / "t.npy", "--output", out)
        logits = np.load(out).astype(np.float64)[:-1]
        largest = logits.max(1)
        total = largest + np.log(np.exp(logits - largest[:, None]).sum(1))
        nats = total - logits[np.arange(len(tokens) - 1), tokens[1:]]
        result = self.perplexity("--ctx", 4096)
        self.assertEqual((result["windows"], result["scored_tokens"]), (1, len(tokens) - 1))
        self.assertAlmostEqual(result["nats_per_token"], nats.mean(), places=6)
        error = nats.std(ddof=1) / math.sqrt(len(nats))
        self.assertAlmostEqual(result["nats_per_token_uncertainty"], error, places=6)
        self.assertAlmostEqual(result["perplexity"], math.exp(nats.mean()), places=3)

    def test_windows_score_every_token_but_the_first_once(self):
        num_tokens = len(TEXT.encode())
        for ctx, stride in ((64, 0), (64, 16), (63, 62), (2, 1), (num_tokens, 7)):
            result = self.perplexity("--ctx", ctx, "--ppl-stride", stride)
            self.assertEqual(result["scored_tokens"], num_tokens - 1, (ctx, stride))
            self.assertEqual(result["tokens"], num_tokens)

    def test_mistakes(self):
        arguments = ("perplexity", self.model, "-p")
        self.assert_error("--ppl-stride", *arguments, "text", "--ctx", 8, "--ppl-stride", 8)
        self.assert_error("at least 2", *arguments, "x")
        self.assertIn("standard error", self.run_program("perplexity", "--help").stdout)


class Chat(ProgramTest):
    def setUp(self):
        (self.model / "chat_template.jinja").write_text(CHAT_TEMPLATE)

    def chat(self, lines, *flags, code=0):
        flags = ("--temp", 0, "-n", 6, "--ignore-eos", *flags)
        return self.run_program(
            "chat", self.model, *flags, code=code, stdin="\n".join(lines) + "\n"
        )

    def test_turns_from_a_pipe(self):
        once = self.chat(["hello"]).stdout
        self.assertTrue(once.endswith("\n"))
        twice = self.chat(["hello", "and again"]).stdout
        self.assertTrue(twice.startswith(once) and len(twice) > len(once))

    def test_reset_forgets(self):
        once = self.chat(["hello"]).stdout
        self.assertEqual(self.chat(["hello", "/reset", "hello"]).stdout, once + once)

    def test_quit_and_help(self):
        self.assertEqual(self.chat(["/quit", "hello"]).stdout, "")
        self.assertIn("/reset", self.chat(["/help"]).stderr)

    def test_a_turn_is_what_generate_makes_of_the_whole_conversation(self):
        first = self.chat(["hello"]).stdout
        second = self.chat(["hello", "more"]).stdout[len(first) :]
        flags = ("--temp", 0, "-n", 6, "--ignore-eos", "--json")
        prompt = f"[user]hello\n[assistant]{first.removesuffix(chr(10))}\n[user]more\n[assistant]"
        if "\ufffd" not in prompt:  # the reply was whole characters, so it reads back as itself
            done = self.run_program("generate", self.model, "-p", prompt, *flags)
            self.assertEqual(json.loads(done.stdout)["text"] + "\n", second)

    def test_a_conversation_beyond_the_context_ends_with_numbers(self):
        done = self.chat(["x" * 200], "--ctx-size", 64, code=4)
        self.assertIn("64", done.stderr)

    def test_on_a_terminal_a_failed_turn_is_not_the_end(self):
        master, slave = pty.openpty()
        command = [
            PROGRAM,
            "chat",
            self.model,
            "--temp",
            0,
            "-n",
            6,
            "--ignore-eos",
            "--ctx-size",
            64,
        ]
        with subprocess.Popen(
            [*map(str, command)], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            os.close(slave)
            lines = ["hello", "x" * 200, "/reset", "hello", "/quit"]
            os.write(master, "".join(line + "\n" for line in lines).encode())
            output, errors = process.communicate(timeout=60)
        os.close(master)
        self.assertEqual(process.returncode, 0, errors)
        self.assertEqual(errors.count(b"indexshare: error: "), 1, errors)
        replies = output.split(b"> ")
        self.assertEqual(replies[1], replies[4])  # the same conversation, begun anew
        self.assertTrue(replies[1].endswith(b"\n"))

    def test_an_unknown_command_is_no_message(self):
        done = self.chat(["/rest", "hello"])
        self.assertIn("/rest: no such command", done.stderr)
        self.assertEqual(done.stdout, self.chat(["hello"]).stdout)

    def test_chat_takes_no_prompt(self):
        self.assert_error("--prompt", "chat", self.model, "--prompt", "x", code=USAGE)


if __name__ == "__main__":
    unittest.main()
