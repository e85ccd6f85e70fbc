"""Freed memory stays with the process: a large tensor that comes again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROUNDS = 16
COUNT = """
import resource, torch
from mien.runtime.malloc import tune_malloc
print(tune_malloc() if {keep} else True)
torch.ones({size})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({rounds}):
    torch.ones({size})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    run = subprocess.run(
        [sys.executable, "-c", COUNT.format(keep=keep, size=16 * 2**20, rounds=ROUNDS)],
        capture_output=True,
        text=True,
        check=True,
    )
    told, count = run.stdout.split()
    if told != "True":
        pytest.skip("the C library has no mallopt")
    return int(count)


def test_large_tensors_are_not_faulted_in_again() -> None:
    without = faults(False)
    if without < ROUNDS:
        pytest.skip("this C library keeps the memory of its own accord")
    assert faults(True) < 0.7 * without
