#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""analyze: the figures' bounds, the report's HTML, the search and its state file, and what is refused."""

import json
import re
import unittest
from html.parser import HTMLParser

from program import BAD_MODEL, ProgramTest, make_checkpoint

VOID = {"meta", "br", "hr", "img", "input", "link"}
TEXT = "".join(f"Line {i}: the {i * 7919 % 101} cats saw {i * i} dogs.\n" for i in range(60))


class Wellformed(HTMLParser):
    """Every element is closed, in order; nothing is fetched from anywhere."""

    def __init__(self):
        super().__init__()
        self.open, self.titles, self.faults = [], 0, []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "background"):
                self.faults.append(f"{tag} {name}={value}")
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.faults.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.titles += tag == "title"

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")


class AnalyzeTest(ProgramTest):
    checkpoint = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model, cls.shared = cls.folder / "every", cls.folder / "shared"
        make_checkpoint(cls.model, "--all-indexers")
        make_checkpoint(cls.shared)
        cls.text = cls.folder / "text.txt"
        cls.text.write_text(TEXT)

    def analyze(self, *arguments, model=None):
        return self.run_json("analyze", model or self.model, "--text", self.text, *arguments)

    def refused(self, words, *arguments, model=None, **code):
        self.assert_error(
            words, "analyze", model or self.model, "--text", self.text, *arguments, **code
        )


class Analysis(AnalyzeTest):
    def test_figures_are_shares_in_their_order(self):
        result = self.analyze("--context", 200, "--rows", 9)
        self.assertEqual(result["pattern"], "FFFSSSFS")
        self.assertTrue(result["has_own_selections"])
        self.assertEqual((result["tokens"], result["rows"], result["index_topk"]), (200, 9, 8))
        self.assertEqual(result["output_rows"], 200 - 1 - 8)
        self.assertEqual([layer["source"] for layer in result["layers"]], [0, 1, 2, 2, 2, 2, 6, 6])
        for layer in result["layers"]:
            coverage = layer["coverage"]
            best = coverage["oracle"]["mean"]
            self.assertLessEqual(coverage["own"]["mean"], best)
            self.assertLessEqual(coverage["source"]["mean"], best)
            self.assertLessEqual(best, 1)
            self.assertNotIn("needle_recall_own", layer)
        share = result["overlap"]["share"]
        self.assertEqual(len(share), 8)
        for i, row in enumerate(share):
            self.assertEqual(row[i], 1)
            for j, value in enumerate(row):
                self.assertEqual(value, share[j][i])
                self.assertLessEqual(result["overlap"]["jaccard"][i][j], value)
        pairs = [(one["reference"], one["tested"]) for one in result["outputs"]]
        self.assertEqual(
            pairs, [("dense", "every_layer"), ("dense", "shared"), ("every_layer", "shared")]
        )
        groups = {group["source"]: group for group in result["groups"]}
        self.assertEqual(groups[2]["layers"], [2, 3, 4, 5])
        self.assertAlmostEqual(groups[6]["overlap"], share[7][6])

    def test_a_plan_by_overrides_is_the_one_analyzed(self):
        pattern = '{"index_topk_pattern":"FFFFFFFF"}'
        result = self.analyze("--context", 60, "--no-dense", "--hf-overrides", pattern)
        (one,) = result["outputs"]
        self.assertEqual((one["kl"]["mean"], one["top1_agreement"]), (0, 1))

    def test_without_own_indexers_it_says_so_and_compares_full_layers(self):
        result = self.analyze("--context", 100, model=self.shared)
        self.assertFalse(result["has_own_selections"])
        self.assertEqual(result["overlap"]["layers"], [0, 1, 2, 6])
        self.assertNotIn("coverage", result["layers"][3])
        said = self.run_program(
            "analyze", self.shared, "--text", self.text, "--context", 100
        ).stdout
        self.assertIn("full layers alone are compared", said)

    def test_needles(self):
        result = self.analyze("--context", 300, "--needle", "Line 3: the")
        self.assertEqual(result["needle"], "Line 3: the")
        for layer in result["layers"]:
            self.assertLessEqual(layer["needle_recall_own"], 8 / 11)
            self.assertGreaterEqual(layer["needle_recall_as_run"], 0)
        planted = self.analyze("--context", 100, "--plant", "A new line.", "--needle-rows", 2)
        self.assertEqual(planted["tokens"], 100 + len("A new line.\n"))
        asked = self.analyze("--context", 100, "--question", "Why?")
        self.assertEqual(asked["tokens"], 100 + len("\n\nWhy?"))
        self.assertNotIn("needle", asked)

    def test_the_table_says_the_same(self):
        said = self.run_program(
            "analyze", self.model, "--text", self.text, "--context", 90, "--needle", "cats"
        ).stdout
        for words in ("plan FFFSSSFS", "best k", "needle: own", "every_layer  shared", "2 3 4 5"):
            self.assertIn(words, said)

    def test_text_from_standard_input(self):
        done = self.run_program("analyze", self.model, "--text", "-", "--no-dense", stdin=TEXT[:50])
        self.assertIn("50 tokens read", done.stdout)

    def test_the_report_is_one_file_of_html(self):
        for model in (self.model, self.shared):
            path = self.folder / "report <1>.html"
            self.analyze("--context", 90, "--needle", "cats", "--html", path, model=model)
            text = path.read_text()
            page = Wellformed()
            page.feed(text)
            self.assertEqual((page.open, page.faults), ([], []))
            self.assertGreater(page.titles, 20)  # numbers on hover
            self.assertNotRegex(text, r"https?:|url\(|@import")
            self.assertIn("prefers-color-scheme: dark", text)
            self.assertIn("report &lt;1&gt;.html", text)  # the command, escaped
            self.assertIn(model.name, re.search(r"<h1>(.*)</h1>", text)[1])
            self.assertEqual(list(self.folder.glob("*.tmp")), [])

    def test_what_is_refused(self):
        self.refused("expected at least 10 tokens, found 9", "--context", 9)
        self.refused("--attention dense", "--attention", "dense")
        self.refused("--needle: expected text that occurs", "--needle", "no such words")
        self.refused("--plant", "--needle", "cats", "--plant", "dogs")
        self.refused("--needle-rows", "--needle-rows", 2)
        self.refused("belong to --search", "--windows", 2)
        self.refused("belong to --search", "--state", self.folder / "s.json")
        self.refused("cannot write", "--html", self.folder / "nowhere" / "report.html")
        self.refused("--rows", "--rows", 0)
        self.refused("index_topk is 0", "--hf-overrides",
                     '{"index_topk":0,"index_fixed_pattern":{"window":8}}')  # fmt: skip
        self.assert_error("--text", "analyze", self.model)
        empty = self.folder / "empty.txt"
        empty.touch()
        for more in ((), ("--question", "who?"), ("--search", 1)):
            self.assert_error(
                ["--text", "empty.txt", "an empty file"],
                "analyze", self.model, "--text", empty, *more,
            )  # fmt: skip
        self.assert_error("cannot read", "analyze", self.model, "--text", self.folder / "none")
        self.assert_error(
            "none", "analyze", self.folder / "none", "--text", self.text, code=BAD_MODEL
        )


class Search(AnalyzeTest):
    def search(self, *arguments, model=None):
        return self.analyze("--context", 60, "--search", *arguments, model=model)

    def test_steps_and_plans(self):
        result = self.search(2)
        self.assertTrue(result["steps_are_exact"])
        self.assertEqual([len(step["candidates"]) for step in result["steps"]], [7, 6])
        for step in result["steps"]:
            self.assertEqual(step["loss"], min(one["loss"] for one in step["candidates"]))
            self.assertEqual(step["pattern"][step["layer"]], "S")
        self.assertEqual(result["pattern"].count("F"), 6)
        self.assertEqual(result["hf_overrides"], {"index_topk_pattern": result["pattern"]})
        plans = {plan["plan"]: plan for plan in result["plans"]}
        self.assertEqual(list(plans), ["every layer", "searched", "uniform", "the checkpoint's"])
        self.assertEqual(plans["uniform"]["pattern"], "FFFSFFFS")
        self.assertEqual(plans["the checkpoint's"]["pattern"], "FFFSSSFS")
        self.assertEqual(plans["searched"]["loss"], result["steps"][1]["loss"])

    def test_what_is_printed_can_be_pasted(self):
        arguments = ("analyze", self.model, "--text", self.text, "--context", 60, "--search", 1)
        done = self.run_program(*arguments)
        self.assertEqual(done.stderr, "")
        overrides = re.search(r"--hf-overrides '(.*)'\n$", done.stdout)[1]
        pattern = json.loads(overrides)["index_topk_pattern"]
        self.assertEqual(
            self.analyze("--context", 60, "--hf-overrides", overrides)["pattern"], pattern
        )
        self.assertIn(f"  {pattern}\n", done.stdout)

    def test_it_goes_on_from_its_state(self):
        path = self.folder / "state.json"
        first = self.search(1, "--state", path)
        state = json.loads(path.read_text())
        self.assertEqual(len(state["steps"]), 1)
        state["pending"] = state["steps"].pop()["candidates"][:3]  # as if it had been interrupted
        path.write_text(json.dumps(state))
        self.assertEqual(self.search(1, "--state", path), first)
        self.assertEqual(self.search(3, "--state", path)["steps"], self.search(3)["steps"])
        self.assertEqual(self.search(1, "--state", path), first)  # a longer state serves
        self.assertEqual(len(json.loads(path.read_text())["steps"]), 3)

    def test_a_state_of_another_search_is_refused(self):
        path = self.folder / "other.json"
        self.search(1, "--state", path)
        good = path.read_text()

        def refused(words, *arguments):
            self.refused(words, "--search", 1, "--state", path, *arguments)

        refused(["context", "expected 70", "found 60"], "--context", 70)
        refused(["tail_rows", "expected 9", "found 0"], "--context", 60, "--tail-rows", 9)
        refused(["index_topk", "expected 7"], "--context", 60, "--hf-overrides", '{"index_topk":7}')
        self.text.write_text(TEXT.replace("cats", "rats"))
        refused("text_hash", "--context", 60)
        self.text.write_text(TEXT)
        for bad, words in [
            ("nonsense", "expected a JSON object"),
            ("[]", "expected a JSON object"),
            (good.replace('"steps"', '"stops"'), "other fields"),
            (good.replace('"every_layer_loss": ', '"every_layer_loss": 1'), "resume"),
            ("{}", "kind"),
        ]:
            path.write_text(bad)
            refused(words, "--context", 60)
            self.assertEqual(path.read_text(), bad)

    def test_tails_and_windows(self):
        result = self.search(1, "--tail-rows", 10, "--windows", 3)
        self.assertFalse(result["steps_are_exact"])
        self.assertEqual(result["scored_tokens"], 3 * (60 - 1 - 8))
        self.refused("need a text of", "--context", 2000, "--windows", 9, "--search", 1)

    def test_what_is_refused(self):
        self.refused("4 of 8 layers have one", "--search", 1, model=self.shared, code=BAD_MODEL)
        self.refused("--search: expected at most 7", "--search", 8)
        self.refused("--search", "--search", -1)
        self.refused("belong to the analysis", "--search", 1, "--html", self.folder / "x.html")
        self.refused("expected at least 10 tokens each, found 9", "--search", 1, "--context", 9)


if __name__ == "__main__":
    unittest.main()
