#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Help, versions and mistakes on the command line: exit code 2 and one sentence."""

import subprocess
import unittest

from program import PROGRAM, USAGE, ProgramTest

VERBS = (
    "generate",
    "chat",
    "inspect",
    "bench",
    "analyze",
    "perplexity",
    "logits",
    "quantize",
    "tokenize",
)


class Usage(ProgramTest):
    checkpoint = False

    def test_help_names_every_verb_and_exit_code(self):
        said = self.run_program("--help").stdout
        for word in (*VERBS, "130"):
            self.assertIn(word, said)

    def test_every_verb_explains_its_flags_with_their_defaults(self):
        for verb in VERBS:
            said = self.run_program(verb, "--help").stdout
            self.assertIn("MODEL", said)
            self.assertNotIn("--row ", said)  # what bench passes to its processes
        said = self.run_program("generate", "--help").stdout
        for word in ("[512]", "cpu|reference|cuda", "[auto]", "--hf-overrides", "else 128"):
            self.assertIn(word, said)

    def test_version(self):
        self.assertRegex(self.run_program("--version").stdout, r"^indexshare \d+\.\d+\.\d+\n$")

    def test_no_arguments_print_the_usage(self):
        done = self.run_program("--help")
        bare = subprocess.run([PROGRAM], capture_output=True, text=True, check=False)
        self.assertEqual((bare.returncode, bare.stdout), (USAGE, ""))
        self.assertEqual(bare.stderr, done.stdout)

    def test_unknown_verb(self):
        self.assert_error("did you mean generate?", "genrate", "model")
        self.assert_error("unknown verb frobnicate;"[:-1], "frobnicate")
        self.assert_error("did you mean --version?", "--verison")

    def test_unknown_flag_is_named_with_the_nearest(self):
        cases = [
            ("--temprature", "--temperature"),
            ("--max-token=5", "--max-tokens"),
            ("--prompt_file", "--prompt-file"),
            ("--ctxsize", "--ctx-size"),
        ]
        for wrong, right in cases:
            self.assert_error(f"did you mean {right}?", "generate", "model", wrong, "5")
        said = self.run_program("generate", "model", "--zzzzzzzz", code=USAGE).stderr
        self.assertIn("unknown flag --zzzzzzzz;", said)

    def test_an_unknown_flag_is_named_before_what_else_is_missing(self):
        self.assert_error("unknown flag --promt (did you mean --prompt?)", "generate", "--promt")

    def test_missing_and_surplus_arguments(self):
        self.assert_error("MODEL", "generate")
        self.assert_error("--tokens", "logits", "model")
        self.assert_error('unexpected argument "more"', "generate", "model", "-p", "x", "more")
        self.assert_error("--seed", "generate", "model", "-p", "x", "--seed")
        self.assert_error("expected --prompt TEXT, --file FILE or both", "generate", "model")
        self.assert_error("--special", "generate", "model", "--chat", "--special", "-p", "x")

    def test_values_out_of_range(self):
        cases = [
            ("--temp", "nan"),
            ("--temp", "-1"),
            ("--temp", "1e309"),
            ("--top-p", "2"),
            ("--top-k", "-5"),
            ("--top-k", "5x"),
            ("--top-k", ""),
            ("--threads", "0x10"),
            ("--threads", "99999999999999999999"),
            ("--seed", "36893488147419103232"),
            ("--seed", "-1"),
            ("--max-tokens", "-2"),
            ("--max-tokens", "1.5"),
            ("--chunk-size", "0"),
            ("--chunk-size", "65537"),
            ("--ctx-size", "2147483648"),
            ("--temp", "101"),
            ("--top-p", "0"),
            ("--max-tokens", "0"),
            ("--repeat-penalty", "0"),
            ("--presence-penalty", "-101"),
            ("--logit-bias", "5=2e6"),
            ("--stop", ""),
            ("--window", "2147483648"),
            ("--backend", "gpu"),
            ("--kv-cache-dtype", "fp4"),
            ("--index-cache-dtype", "fp8"),
            ("--weights", "int3"),
            ("--activation-bits", "4"),
            ("--activation-bits", "auto"),
            ("--plan", "none"),
            ("--pattern-mode", "both"),
            ("--logit-bias", "5"),
            ("--logit-bias", "5=nan"),
            ("--logit-bias", "x=1"),
        ]
        for flag, value in cases:
            self.assert_error([flag, "expected"], "generate", "model", "-p", "x", flag, value)

    def test_flags_that_would_be_ignored(self):
        generate = ("generate", "model", "-p", "x")
        for flag in ("--chat-template-file", "--chat-template-kwargs"):
            self.assert_error([flag, "--chat"], *generate, flag, "{}")
        for flags in (("--window", 4), ("--sinks", 0), ("--pattern-mode", "fill")):
            self.assert_error("--attention dense", *generate, "--attention", "dense", *flags)
        for flags in (("-p", "x"), ("-f", "x"), ("--count",), ("--special",)):
            self.assert_error("--decode", "tokenize", "model", "--decode", "1", *flags)
        for plan in ("both", "every_layer"):
            self.assert_error("--plan", "bench", "model", "--attention", "dense", "--plan", plan)

    def test_lists(self):
        self.assert_error("--context", "inspect", "model", "--context", "1,,2")
        self.assert_error("--context", "inspect", "model", "--context", "0")
        self.assert_error("--context", "bench", "model", "--context", "4k")
        self.assert_error("--context", "bench", "model", "--context", (1 << 31) - 1)

    def test_a_missing_prompt_file_is_a_usage_error(self):
        missing = self.folder / "missing.txt"
        self.assert_error(
            ["missing.txt", "No such file"], "generate", "model", "--prompt-file", missing
        )
        self.assert_error(["Is a directory"], "generate", "model", "--prompt-file", self.folder)

    def test_an_empty_file_is_named_before_anything_is_loaded(self):
        empty = self.folder / "empty.txt"
        empty.touch()
        for verb in ("generate", "perplexity"):
            for more in ((), ("--prompt", "")):
                self.assert_error(
                    ["--file", "empty.txt", "expected text"], verb, "model", "-f", empty, *more
                )
            self.assert_error(["--file", "-: expected text"], verb, "model", "-f", "-")

    def test_hf_overrides_must_be_an_object(self):
        for text in ("[1]", "{", "5", ""):
            arguments = ["generate", "model", "-p", "x", "--window", "4", "--hf-overrides", text]
            if text:
                self.assert_error("--hf-overrides", *arguments)


if __name__ == "__main__":
    unittest.main()
