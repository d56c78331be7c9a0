#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every path of ours that README.md, CONTRIBUTING.md, docs/ and models/*/README.md name must exist.

A path is a word in `backticks`, a link's target or a word in a code block that contains a slash and
begins with a folder of the repository, or that is a file name of the root. Globs must match something;
build/ and words with placeholders (UPPER CASE, <...>) are left out.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

WORD = re.compile(r"[A-Za-z0-9_.*{},~/+-]+")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^ {0,3}(```|~~~)")
PLACEHOLDER = re.compile(r"(^|/)[A-Z]{3,}(/|$)")
GENERATED = ("build", ".cache")


def documents():
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))
    for folder in ("docs", "models", "tests", "training", "bench", "fuzz"):
        yield from sorted((ROOT / folder).rglob("*.md"))


def top_names():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {line.split("/")[0] for line in tracked.stdout.splitlines()}


def expand(path):
    """engine.{h,cpp} -> engine.h, engine.cpp"""
    match = re.search(r"\{([^{}]*)\}", path)
    if not match:
        return [path]
    head, tail = path[: match.start()], path[match.end() :]
    return [p for part in match.group(1).split(",") for p in expand(head + part + tail)]


def named_paths(text, tops):
    """(line number, path) of each word that looks like a path of ours, links included."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
            continue
        is_code = fenced or line.startswith("    ")
        pieces = [line] if is_code else CODE_SPAN.findall(line)
        for word in (w for piece in pieces for w in WORD.findall(piece)):
            path = word.removeprefix("./").rstrip("/.,")
            if path.split("/")[0] in tops and ("/" in path or "." in path):
                yield number, path
        if not is_code:
            for target in LINK.findall(line):
                if "://" not in target and not target.startswith("mailto:"):
                    yield number, f"link:{target}"


def exists(path, document):
    if path.startswith("link:"):
        target = path.removeprefix("link:")
        return (document.parent / target).exists()
    if path.split("/")[0] in GENERATED or PLACEHOLDER.search(path):
        return True
    return all(any(ROOT.glob(p)) if "*" in p else (ROOT / p).exists() for p in expand(path))


def main():
    tops = top_names()
    checked, missing = 0, []
    for document in documents():
        if not document.is_file():
            continue
        for number, path in named_paths(document.read_text(encoding="utf-8"), tops):
            checked += 1
            if not exists(path, document):
                name = document.relative_to(ROOT)
                missing.append(f"{name}:{number}: {path.removeprefix('link:')} does not exist")
    print(*missing, sep="\n", end="\n" if missing else "")
    print(f"{checked} paths named, {len(missing)} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
