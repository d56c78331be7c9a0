#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job, shown: the bundled model reads a long text with a planted fact and answers from it,
once with selections shared between layers, once with an indexer in every layer.

FILE is any text. A text shorter than --tokens is read as it is, a longer one is cut there. Without
FILE the project's own documents and sources are read, each behind a line that names it, the list
repeated to --tokens. The fact stands on a line of its own, at the end of the line next after 37 % of
the text; where no line ends there, at the next space.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "bin" / "indexshare"
MODEL = ROOT / "models" / "indexshare-tiny"

# The wording is what the model was trained on (its README.md says so); the answer is the last word.
FACT = "The vault code of the lighthouse keeper is 48213."
QUESTION = "What is the vault code of the lighthouse keeper?"

DEPTH = 0.37  # where in the text the fact stands
ANSWER_TOKENS = 24
DRAFT_TOKENS = 4  # a round, where the model has an MTP layer
TOKENS = 65536
MAX_TOKEN_BYTES = 64  # so much of a huge file is read for each token wanted
PLANS = ("shared", "every_layer")

# None of them states the fact: this file, which does, is left out.
DOCUMENTS = """
README.md
CONTRIBUTING.md
docs/architecture.md
docs/index_sharing.md
docs/decisions.md
include/indexshare/engine.h
include/indexshare/options.h
include/indexshare/tokenizer.h
src/model/share_plan.cpp
src/model/model.cpp
src/model/indexer.cpp
src/model/attention.cpp
src/engine/load.cpp
src/engine/requests.cpp
src/engine/sequences.cpp
src/engine/scheduler.cpp
src/engine/sampler.cpp
src/backend/backend.h
src/cli/generate.cpp
src/cli/bench.cpp
""".split()


class DemoError(Exception):
    """Something failed that the reader can do something about."""


def run_program(*arguments, show_progress=False):
    """The JSON object that a verb prints; its progress bar goes to our terminal."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        stderr=None if show_progress else subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        said = "" if show_progress else done.stderr.decode(errors="replace").strip()
        raise DemoError(f"indexshare {arguments[0]} ended with {done.returncode} {said}".strip())
    return json.loads(done.stdout)


@dataclass
class Text:
    """A text to read and how it came to have its length."""

    text: str
    num_tokens: int
    origin: str


class Reader:
    """Counts tokens with the model's own tokenizer, and cuts a text to a number of them."""

    def __init__(self, model, folder):
        self.model, self.path = model, Path(folder) / "count.txt"

    def count(self, text):
        self.path.write_text(text, encoding="utf-8")
        return run_program("tokenize", self.model, "--file", self.path, "--count")["count"]

    def cut(self, text, limit):
        """The longest beginning found with at most `limit` tokens, and its number of tokens."""
        count = self.count(text)
        while count > limit:
            # Aim a little low, so that few rounds are needed.
            text = text[: int(len(text) * limit / count * 0.9995) - 1]
            count = self.count(text)
        return text, count


def own_documents(reader, limit):
    """The project's documents, tagged, again and again until `limit` tokens are full."""
    parts = [
        f"===== {name} =====\n{(ROOT / name).read_text(encoding='utf-8').rstrip()}\n\n"
        for name in DOCUMENTS
    ]
    once = "".join(parts)
    repeats = limit / max(reader.count(once), 1)
    text, count = reader.cut(once * (int(repeats * 1.02) + 1), limit)
    documents = f"{len(DOCUMENTS)} of the project's own documents and sources"
    if repeats < 1:
        return Text(text, count, f"the beginning of {documents}")
    return Text(text, count, f"{documents}, repeated {repeats:.1f} times")


def file_text(path, reader, limit):
    try:
        with open(path, "rb") as file:
            some = file.read(limit * MAX_TOKEN_BYTES)
            rest = file.read(1)
    except OSError as error:
        raise DemoError(f"cannot read {path}: {error.strerror}") from error
    start = some.decode("utf-8", errors="replace")
    text, count = reader.cut(start, limit)
    whole = not rest and len(text) == len(start)
    return Text(text, count, f"{path}, " + ("as it is" if whole else f"cut to {count:,} tokens"))


def plant(text, fact):
    """The text with the fact on a line of its own, at the end of the line next after DEPTH, or else
    at the space next after it, or else at the end; and where that is, as a part of the text."""
    text = text.rstrip()
    depth = int(len(text) * DEPTH)
    breaks = [text.find(character, depth) for character in "\n "]
    place = next((found + 1 for found in breaks if found >= 0), len(text))
    before, after = text[:place], text[place:]
    if before and not before.endswith("\n"):
        before = before.rstrip(" ") + "\n"
    after = f"{after}\n" if after else ""
    return f"{before}{fact}\n{after}\n", place / max(len(text), 1)


def ask(model, prompt_path, question, plan, context):
    arguments = ["generate", model, "--chat", "--prompt-file", prompt_path, "--prompt", question]
    arguments += ["--temp", 0, "--max-tokens", ANSWER_TOKENS, "--plan", plan]
    if has_mtp_layer(model):
        arguments += ["--draft-tokens", DRAFT_TOKENS]
    return run_program(*arguments, "--ctx-size", context, "--progress", show_progress=True)


def has_mtp_layer(model):
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return (config.get("num_nextn_predict_layers") or 0) > 0


def giga(flops):
    return f"{flops / 1e9:,.1f} G"


def table_rows(results):
    """(label, a value for each plan)."""

    def row(label, value):
        return (label, *(value(results[plan]) for plan in PLANS))

    def flops(result):
        return result["counters"]["flops"]

    def index_flops(result):
        return flops(result)["indexer_projections"] + flops(result)["index_scores"]

    def index_keys(result):
        return result["cache"]["index_key_bytes_per_token"] * result["prompt_tokens"]

    def drafts(result):
        return f"{sum(result['drafts']['accepted'])} of {sum(result['drafts']['proposed'])}"

    drafting = all("drafts" in result for result in results.values())
    return [
        row("layers with an indexer", lambda r: f"{len(r['full_layers'])} of {len(r['plan'])}"),
        row("indexer passes", lambda r: f"{r['counters']['indexer_passes']:,}"),
        row("FLOPs of the index", lambda r: giga(index_flops(r))),
        row("FLOPs in all", lambda r: giga(flops(r)["total"])),
        row("memory of index keys", lambda r: f"{index_keys(r) / 1e6:,.2f} MB"),
        row("seconds of reading", lambda r: f"{r['timings']['prefill_s']:,.1f}"),
        row("seconds of answering", lambda r: f"{r['timings']['decode_s']:,.2f}"),
        *([row("drafted tokens accepted", drafts)] if drafting else []),
        row("answer", lambda r: repr(answer_of(r))),
    ]


def answer_of(result):
    return result["text"].strip()


def print_table(results):
    rows = [("", *PLANS), *table_rows(results)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for label, *values in rows:
        cells = [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
        print(label.ljust(widths[0]), *cells, sep="  ")


def print_verdict(results, expected):
    shared, every_layer = (answer_of(results[plan]) for plan in PLANS)
    print(
        "\nBoth plans give the same answer." if shared == every_layer else "\nThe answers differ."
    )
    right = [plan for plan in PLANS if answer_of(results[plan]).rstrip(".") == expected]
    if len(right) == len(PLANS):
        print(f"Both are right: {expected}.")
    elif right:
        print(f"Only {right[0]} is right: the planted answer is {expected}.")
    else:
        print(
            f"Neither is right: the planted answer is {expected}; the model did not find it here."
        )


def parse_arguments():
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="demo.sh", description=summary, epilog=details)
    parser.add_argument("file", nargs="?", metavar="FILE", help="a text to read")
    parser.add_argument("--tokens", type=int, default=TOKENS, metavar="N", help=f"default {TOKENS}")
    parser.add_argument("--fact", default=FACT, help=f'default "{FACT}"')
    parser.add_argument("--question", default=QUESTION, help=f'default "{QUESTION}"')
    parser.add_argument("--answer", help="default: the last word of the fact")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="DIR")
    arguments = parser.parse_args()
    if arguments.tokens < 1:
        parser.error("--tokens: expected at least 1")
    if not arguments.fact.strip():
        parser.error("--fact: expected a sentence")
    return arguments


def main():
    arguments = parse_arguments()
    if not (arguments.model / "config.json").is_file():
        raise DemoError(f"there is no model in {arguments.model}")
    expected = arguments.answer or arguments.fact.split()[-1].strip(".,;:!?\"'")
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(arguments.model, folder)
        if arguments.file:
            source = file_text(arguments.file, reader, arguments.tokens)
        else:
            source = own_documents(reader, arguments.tokens)
        prompt, depth = plant(source.text, arguments.fact)
        prompt_path = Path(folder) / "prompt.txt"
        prompt_path.write_text(prompt, encoding="utf-8")
        context = reader.count(prompt + arguments.question) + ANSWER_TOKENS + 64

        print(f"model     {arguments.model.name}")
        print(f"text      {source.num_tokens:,} tokens: {source.origin}")
        print(f"planted   {arguments.fact} (behind {depth:.0%} of the text)")
        print(f"question  {arguments.question}\n", flush=True)
        results = {}
        for plan in PLANS:
            results[plan] = ask(arguments.model, prompt_path, arguments.question, plan, context)
    print_table(results)
    print_verdict(results, expected)


if __name__ == "__main__":
    try:
        main()
    except (DemoError, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
