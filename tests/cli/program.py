# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: the program, and small random checkpoints."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("INDEXSHARE_PROGRAM", str(ROOT / "build" / "bin" / "indexshare"))

OK, FAILURE, USAGE, BAD_MODEL, OUT_OF_RESOURCE, INTERRUPTED = 0, 1, 2, 3, 4, 130

CHAT_TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def make_checkpoint(folder, *arguments, preset="tiny-glm", dtype="f32"):
    command = [sys.executable, "-B", ROOT / "tools" / "make_checkpoint.py", folder]
    command += ["--preset", preset, "--dtype", dtype, *arguments]
    subprocess.run(command, check=True, capture_output=True)


class ProgramTest(unittest.TestCase):
    """A folder for the class, with a checkpoint in it where the class asks for one."""

    checkpoint = True

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="indexshare cli "))  # a space, on purpose
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.model = cls.folder / "model"
        if cls.checkpoint:
            make_checkpoint(cls.model)

    def run_program(self, *arguments, code=OK, stdin=""):
        """The finished process; its exit code must be `code`, its stderr one sentence if not 0."""
        done = subprocess.run(
            [PROGRAM, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
        words = " ".join(map(str, arguments))
        self.assertEqual(done.returncode, code, f"{words}\n{done.stdout}\n{done.stderr}")
        if code not in (OK, INTERRUPTED):
            errors = [s for s in done.stderr.splitlines() if not s.startswith("indexshare: note: ")]
            self.assertEqual(len(errors), 1, done.stderr)
            self.assertTrue(errors[0].startswith("indexshare: error: "), done.stderr)
            self.assertEqual(done.stdout, "")
        return done

    def run_json(self, *arguments):
        def refuse(constant):
            raise AssertionError(f"{constant} is no JSON")

        done = self.run_program(*arguments, "--json")
        result = json.loads(done.stdout, parse_constant=refuse)
        self.assertEqual(result["schema_version"], 1)
        return result

    def assert_error(self, words, *arguments, code=USAGE):
        """The program refuses, and says each of `words`."""
        said = self.run_program(*arguments, code=code).stderr
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, said)
