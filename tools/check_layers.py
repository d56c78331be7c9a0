#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the #include lines of include/ and src/ against the floors of docs/architecture.md.

A file may include its own folder, the folders that ALLOWED lists for it, and the standard library.
Quoted includes name files of ours; libraries come in angle brackets and are held against LIBRARIES.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# folder -> what it may include beside itself; "file.h" allows one file, "a/b" one folder.
ERRORS_AND_OPTIONS = {"include/indexshare/error.h", "include/indexshare/options.h"}
BACKEND_SEAM = {"src/backend/backend.h", "src/backend/quantise.h"}
ENGINE_FLOOR = BACKEND_SEAM | {
    "src/model",
    "src/cache",
    "src/checkpoint",
    "src/text",
    "src/base",
    "include/indexshare",
}
ALLOWED = {
    "src/cli": {"include/indexshare"},
    "src/server": {"include/indexshare"},
    "src/engine": ENGINE_FLOOR,
    "src/analysis": ENGINE_FLOOR,
    "src/quantize": ENGINE_FLOOR,
    "src/model": {"src/cache", "src/checkpoint", "src/base"} | BACKEND_SEAM | ERRORS_AND_OPTIONS,
    "src/cache": {"src/base"} | BACKEND_SEAM | ERRORS_AND_OPTIONS,
    "src/backend": {"src/base"} | ERRORS_AND_OPTIONS,
    "src/checkpoint": {"src/base"} | ERRORS_AND_OPTIONS,
    "src/text": {"src/base", "include/indexshare/tokenizer.h"} | ERRORS_AND_OPTIONS,
    "src/base": ERRORS_AND_OPTIONS,
    "include/indexshare": set(),
}

# library header (a prefix) -> folders that may use it; headers with no "/" or "." are the standard's.
LIBRARIES = {
    "fmt/": {"src"},
    "nlohmann/": {"src/base", "src/text", "src/cli"},
    "spdlog/": {"src/cli", "src/server"},
    "CLI/": {"src/cli"},
    "hwy/": {"src/backend/cpu"},
    "pcre2.h": {"src/text"},
}
STANDARD_C = (
    "sys/",
    "unistd.h",
    "fcntl.h",
    "sched.h",
    "spawn.h",
    "signal.h",
    "immintrin.h",
    "cpuid.h",
)

# Only this file may name the backends' folders.
BACKEND_MAKER = "src/backend/make_backend.cpp"
BACKENDS = ("src/backend/cpu", "src/backend/reference", "src/backend/cuda")

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def is_within(path, folder):
    return path == folder or path.startswith(folder + "/")


def floor_of(path):
    """The most specific folder of ALLOWED that holds the file."""
    return max((folder for folder in ALLOWED if is_within(path, folder)), key=len, default=None)


def resolve(name, source):
    """The file of ours that a quoted include names, relative to the root; None where there is none."""
    for base in (source.parent, ROOT / "src", ROOT / "include"):
        candidate = (base / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(ROOT):
            return candidate.relative_to(ROOT).as_posix()
    return None


def problem_with_ours(path, target):
    if target is None:
        return "no such file"
    for backend in BACKENDS:
        if is_within(target, backend) and not is_within(path, backend) and path != BACKEND_MAKER:
            return f"only {BACKEND_MAKER} may name a backend's folder"
    floor = floor_of(path)
    allowed = ALLOWED[floor] | {floor}
    if any(is_within(target, entry) for entry in allowed):
        return None
    return f"{floor} may not include it"


def problem_with_library(path, name):
    if "/" not in name and "." not in name:
        return None  # <vector>
    for prefix, folders in LIBRARIES.items():
        if name.startswith(prefix):
            known = any(is_within(path, folder) for folder in folders)
            return None if known else f"only {', '.join(sorted(folders))} may use it"
    if name.startswith(STANDARD_C):
        return None if path.startswith("src/") else "public headers stay with the standard library"
    if name.startswith("indexshare/"):
        return "public headers are included with quotes"
    return "a library that tools/check_layers.py does not know"


def check(source):
    """Yields "path:line: ..." for each include that breaks a rule."""
    path = source.relative_to(ROOT).as_posix()
    if floor_of(path) is None:
        yield f"{path}: its folder stands on no floor; add it to tools/check_layers.py"
        return
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        if quote == '"':
            problem = problem_with_ours(path, resolve(name, source))
        else:
            problem = problem_with_library(path, name)
        if problem:
            yield f"{path}:{number}: {line.strip()}: {problem}"


def main():
    suffixes = (".h", ".cpp", ".cu", ".cuh")
    sources = [p for top in ("include", "src") for p in sorted((ROOT / top).rglob("*"))]
    sources = [p for p in sources if p.suffix in suffixes]
    problems = [problem for source in sources for problem in check(source)]
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(sources)} files, {len(problems)} includes against the floors")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
