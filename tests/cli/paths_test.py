#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instruction paths: each that the machine has can be forced; denied tiles are said and done without."""

import ctypes
import os
import struct
import subprocess
import unittest

from program import FAILURE, OK, OUT_OF_RESOURCE, PROGRAM, ProgramTest

PATHS = ("amx", "vnni", "avx512", "avx2", "scalar")
TOKENS = (
    "--prompt",
    "a few words to go on from",
    "-n",
    "8",
    "--temp",
    "0",
    "--ignore-eos",
    "--json",
)


def deny_tiles():
    """The calling process and its children get EPERM from arch_prctl(ARCH_REQ_XCOMP_PERM, ...)."""
    arch_prctl, request_permission, errno_eperm = 158, 0x1023, 1
    load, equal, answer = 0x20, 0x15, 0x06  # BPF: a word of seccomp_data, a comparison, the verdict
    program = [
        (load, 0, 0, 0),  # the number of the system call
        (equal, 0, 3, arch_prctl),
        (load, 0, 0, 16),  # its first argument
        (equal, 0, 1, request_permission),
        (answer, 0, 0, 0x00050000 | errno_eperm),
        (answer, 0, 0, 0x7FFF0000),  # allowed
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(seccomp, filter_mode, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Paths(ProgramTest):
    def generate(self, path=None, **options):
        environment = dict(os.environ, **({"INDEXSHARE_FORCE_KERNEL": path} if path else {}))
        return subprocess.run([PROGRAM, "generate", self.model, *TOKENS], capture_output=True, text=True,
                              env=environment, timeout=120, check=False, **options)  # fmt: skip

    def test_each_path_of_the_machine_can_be_forced(self):
        ran = []
        for path in PATHS:
            done = self.generate(path)
            if done.returncode == OUT_OF_RESOURCE:
                self.assertIn(f"INDEXSHARE_FORCE_KERNEL={path}", done.stderr)
                continue
            self.assertEqual(done.returncode, OK, done.stderr)
            self.assertIn(f"cpu ({path},", done.stdout)
            ran.append(path)
        self.assertIn("scalar", ran)

    def test_an_unknown_path_is_refused(self):
        done = self.generate("sse2")
        self.assertNotIn(done.returncode, (OK, FAILURE))
        for word in ("INDEXSHARE_FORCE_KERNEL", "sse2", "amx", "vnni"):
            self.assertIn(word, done.stderr)

    def test_denied_tiles_are_said_and_done_without(self):
        if self.generate("amx").returncode != OK:
            self.skipTest("this machine has no tiles to deny")
        done = self.generate(preexec_fn=deny_tiles)
        self.assertEqual(done.returncode, OK, done.stderr)
        self.assertIn("does not let this process use them", done.stderr)
        self.assertIn("cpu (vnni,", done.stdout)
        self.assertEqual(self.generate("amx", preexec_fn=deny_tiles).returncode, OUT_OF_RESOURCE)


if __name__ == "__main__":
    unittest.main()
