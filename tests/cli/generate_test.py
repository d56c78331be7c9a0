#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""generate: what --json holds, prompts from files and pipes, sampling, interruption."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from program import CHAT_TEMPLATE, INTERRUPTED, OUT_OF_RESOURCE, PROGRAM, USAGE, ProgramTest

GREEDY = ("--temp", 0, "--ignore-eos")
ENDLESS = ("--ignore-eos", "--max-tokens", 1_000_000, "--ctx-size", 1_048_576)


class Generate(ProgramTest):
    def generate(self, *arguments):
        return self.run_json("generate", self.model, *GREEDY, *arguments)

    def test_json_holds_what_scripts_read(self):
        result = self.generate("-p", "hello world", "-n", 5)
        self.assertEqual(len(result["tokens"]), 5)
        self.assertEqual(result["prompt_tokens"], 11)
        self.assertEqual(result["cached_tokens"], 0)
        self.assertEqual(result["finish_reason"], "length")
        self.assertIsInstance(result["text"], str)
        for key in (
            "load_s",
            "prefill_s",
            "decode_s",
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
        ):
            self.assertGreaterEqual(result["timings"][key], 0)
        self.assertEqual(result["plan"], "FFFSSSFS")
        self.assertEqual(result["full_layers"], [0, 1, 2, 6])
        self.assertGreater(result["peak_rss_bytes"], 1 << 20)

    def test_counters_count_full_layers_and_passes(self):
        result = self.generate("-p", "hello world", "-n", 5)
        counters = result["counters"]
        self.assertEqual(counters["forward_passes"], 5)  # the prompt, then four tokens
        self.assertEqual(counters["indexer_passes"], 5 * len(result["full_layers"]))
        parts = dict(counters["flops"])
        self.assertEqual(parts.pop("total"), sum(parts.values()))

    def test_cache_bytes_agree_with_inspect(self):
        result = self.generate("-p", "x", "-n", 1)
        inspected = self.run_json("inspect", self.model, "--kv-cache-dtype", "f32")
        bytes_per_token = inspected["cache_bytes_per_token"]
        self.assertEqual(result["cache"]["latent_bytes_per_token"], bytes_per_token["mla"])
        self.assertEqual(
            result["cache"]["index_key_bytes_per_token"], bytes_per_token["index_keys"]
        )

    def test_plain_output_is_the_text_of_the_json(self):
        plain = self.run_program("generate", self.model, *GREEDY, "-p", "hello", "-n", 6)
        self.assertEqual(plain.stdout.rstrip("\n"), self.generate("-p", "hello", "-n", 6)["text"])
        self.assertEqual(plain.stderr, "")  # no progress in a pipe

    def test_the_file_comes_before_the_prompt(self):
        path = self.folder / "a text.txt"
        path.write_text("first part\n")
        both = self.generate("--prompt-file", path, "--prompt", "second", "-n", 4)
        joined = self.generate("--prompt", "first part\nsecond", "-n", 4)
        self.assertEqual(both["prompt_tokens"], joined["prompt_tokens"])
        self.assertEqual(both["tokens"], joined["tokens"])
        path.write_text("first part")  # a newline is put between the two
        self.assertEqual(
            self.generate("-f", path, "-p", "second", "-n", 4)["tokens"], joined["tokens"]
        )

    def test_a_prompt_from_standard_input(self):
        done = self.run_program(
            "generate", self.model, *GREEDY, "-f", "-", "-n", 4, "--json", stdin="hello"
        )
        self.assertEqual(
            json.loads(done.stdout)["tokens"], self.generate("-p", "hello", "-n", 4)["tokens"]
        )

    def test_a_prompt_that_looks_like_a_flag(self):
        self.assertEqual(self.generate("-p", "--help", "-n", 1)["prompt_tokens"], 6)
        self.assertEqual(self.generate("-p", "[a,b]", "-n", 1)["prompt_tokens"], 5)
        self.assertEqual(self.generate("-p", "{}", "-n", 1)["prompt_tokens"], 2)

    def test_an_empty_prompt_is_refused(self):
        self.assert_error("prompt", "generate", self.model, "-p", "")

    def test_text_never_becomes_special_tokens_unless_asked(self):
        text = "<|endoftext|>"
        self.assertEqual(self.generate("-p", text, "-n", 1)["prompt_tokens"], len(text))
        special = self.generate("-p", text, "--special", "-n", 1)
        self.assertLessEqual(special["prompt_tokens"], len(text))

    def test_the_same_seed_gives_the_same_text(self):
        def sample(seed):
            arguments = ("-p", "hello", "-n", 24, "--temp", 1.5, "--seed", seed, "--ignore-eos")
            return self.run_json("generate", self.model, *arguments)["tokens"]

        self.assertEqual(sample(7), sample(7))
        self.assertNotEqual(sample(7), sample(8))

    def test_neither_threads_nor_chunks_change_the_tokens(self):
        expected = self.generate("-p", "a longer prompt than one chunk", "-n", 12)["tokens"]
        for flags in (("--threads", 1), ("--chunk-size", 3), ("-b", 1, "-t", 2)):
            found = self.generate("-p", "a longer prompt than one chunk", "-n", 12, *flags)
            self.assertEqual(found["tokens"], expected, flags)

    def test_logit_bias_and_stop(self):
        result = self.generate("-p", "hello", "-n", 4, "--logit-bias", "65=1000")
        self.assertEqual(result["tokens"], [65] * 4)
        stopped = self.generate("-p", "x", "-n", 9, "--logit-bias", "65=1000", "--stop", "AAA")
        self.assertEqual((stopped["text"], stopped["finish_reason"]), ("", "stop"))
        bracket = self.generate("-p", "x", "-n", 3, "--logit-bias", "93=1000", "--stop", "[]]")
        self.assertEqual(bracket["text"], "]]]")

    def test_logprobs(self):
        result = self.generate("-p", "hello", "-n", 3, "--logprobs", 2)
        self.assertEqual([entry["token"] for entry in result["logprobs"]], result["tokens"])
        for entry in result["logprobs"]:
            self.assertEqual(len(entry["top"]), 2)
            self.assertEqual(entry["top"][0]["token"], entry["token"])  # greedy
            self.assertLess(entry["logprob"], 0)

    def test_as_many_tokens_as_fit(self):
        result = self.generate("-p", "hello", "-n", -1, "--ctx-size", 64)
        self.assertGreater(len(result["tokens"]), 40)
        self.assertLessEqual(len(result["tokens"]) + 5, 65)

    def test_a_prompt_beyond_the_context_is_refused_with_numbers(self):
        done = self.run_program(
            *("generate", self.model, "-p", "x" * 100, "--ctx-size", 64, "-n", 1),
            code=OUT_OF_RESOURCE,
        )
        self.assertIn("64", done.stderr)

    def test_a_fixed_pattern(self):
        flags = ("--window", 4, "--sinks", 1, "--stride", 8, "--stride-cap", 2)
        result = self.generate("-p", "a prompt of some length", "-n", 4, *flags)
        overrides = {"window": 4, "sinks": 1, "stride": 8, "stride_cap": 2}
        overrides = json.dumps({"index_fixed_pattern": overrides})
        same = self.generate("-p", "a prompt of some length", "-n", 4, "--hf-overrides", overrides)
        self.assertEqual(result["tokens"], same["tokens"])

    def test_pattern_flags_are_laid_over_the_config(self):
        folder = self.folder / "pattern"
        shutil.copytree(self.model, folder)
        config = json.loads((folder / "config.json").read_text())
        section = {"window": 4, "sinks": 2, "stride": 8, "stride_cap": 1}
        config["index_fixed_pattern"] = section
        (folder / "config.json").write_text(json.dumps(config))

        def total(model, *flags):  # of the attention, which tells how many positions were attended
            arguments = ("-p", "a prompt of some length", "-n", 4, "--temp", 0, "--ignore-eos")
            result = self.run_json("generate", model, *arguments, *flags)
            return result["tokens"], result["counters"]["flops"]["total"]

        def expected(**section):
            return total(self.model, "--hf-overrides", json.dumps({"index_fixed_pattern": section}))

        self.assertEqual(total(folder), expected(**section))
        self.assertEqual(total(folder, "--window", 6), expected(**{**section, "window": 6}))
        self.assertEqual(total(folder, "--stride-cap", 3), expected(**{**section, "stride_cap": 3}))
        self.assertEqual(total(folder, "--stride", 0), expected(window=4, sinks=2))
        none = ("--window", 0, "--sinks", 0, "--stride", 0)
        self.assertEqual(total(folder, *none), total(self.model))
        self.assertNotEqual(total(folder)[1], total(self.model)[1])
        removed = ("--hf-overrides", '{"index_fixed_pattern":null}', "--sinks", 1)
        self.assertEqual(total(folder, *removed), total(self.model, "--sinks", 1))
        union = ("--pattern-mode", "union")
        self.assertEqual(total(folder, *union), expected(**section, mode="union"))

    def test_refinements_of_no_pattern(self):
        for flag, value in (("--stride-cap", 2), ("--stride-phase", 0), ("--pattern-mode", "fill")):
            arguments = ("generate", self.model, "-p", "x", flag, value)
            self.assert_error(flag, *arguments)
            self.assert_error(flag, *arguments, "--stride", 0)
            self.run_program(*arguments, "-n", 1, "--stride", 4)

    def test_another_plan(self):
        overrides = json.dumps({"index_topk_pattern": "FFSSSSFS"})
        result = self.generate("-p", "hello", "-n", 2, "--hf-overrides", overrides)
        self.assertEqual(result["full_layers"], [0, 1, 6])

    def test_overrides_that_would_be_ignored(self):
        known, unknown = '{"index_topk":16}', '{"index_tpok":16}'
        arguments = ("generate", self.model, "--prompt", "x", "--hf-overrides")
        self.assert_error(["--hf-overrides", "index_tpok"], *arguments, unknown)
        self.assert_error(["--hf-overrides", "2"], *arguments, known, "--hf-overrides", known)

    def test_a_context_longer_than_the_model(self):
        done = self.run_program(
            "generate", self.model, "--prompt", "x", "-n", "1", "--ctx-size", "9000000"
        )
        self.assertIn("ctx_size is 9000000", done.stderr)

    def test_chat_wraps_the_prompt(self):
        path = self.folder / "template.jinja"
        path.write_text(CHAT_TEMPLATE)
        result = self.generate("--chat", "--chat-template-file", path, "-p", "hi", "-n", 1)
        self.assertEqual(result["prompt_tokens"], len("[user]hi\n[assistant]"))

    def test_a_chat_template_that_is_missing(self):
        arguments = ("--chat", "--chat-template-file", self.folder / "no.jinja", "-p", "hi")
        self.assert_error("no.jinja", "generate", self.model, *arguments, code=USAGE)

    def test_a_chat_template_that_is_empty(self):
        empty = self.folder / "empty.jinja"
        empty.touch()
        arguments = ("--chat", "--chat-template-file", empty, "-p", "hi")
        self.assert_error(["empty.jinja", "a template"], "generate", self.model, *arguments)


class Interruption(ProgramTest):
    def start(self, *arguments):
        command = [PROGRAM, "generate", self.model, "-p", "hello", *ENDLESS, *arguments]
        return subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def test_sigint_keeps_what_was_generated(self):
        with self.start() as process:
            first = process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, INTERRUPTED, errors)
        self.assertTrue(first and rest.endswith(b"\n"))
        self.assertEqual(errors, b"")

    def test_sigint_with_json_still_prints_the_object(self):
        with self.start("--json") as process:
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, INTERRUPTED)
        result = json.loads(output)
        self.assertEqual(result["finish_reason"], "cancelled")
        self.assertGreater(len(result["tokens"]), 0)

    def test_a_closed_pipe_ends_it_quietly(self):
        with self.start() as process:
            process.stdout.read(1)
            process.stdout.close()
            errors = process.stderr.read()
            process.wait(timeout=30)
        self.assertEqual(process.returncode, -signal.SIGPIPE)
        self.assertEqual(errors, b"")

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_disk_is_a_failure(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [PROGRAM, "inspect", str(self.model)],
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"standard output", done.stderr)


if __name__ == "__main__":
    unittest.main()
