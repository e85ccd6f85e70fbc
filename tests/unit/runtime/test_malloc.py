"""Freed memory stays with the process: a large tensor that comes again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROUNDS = 16
COUNT = """
import resource, torch
from mien.runtime.malloc import tune_malloc

def faults():
    torch.ones({size})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({rounds}):
        torch.ones({size})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), tune_malloc(), faults())
"""


def test_large_tensors_are_not_faulted_in_again() -> None:
    program = COUNT.format(size=16 * 2**20, rounds=ROUNDS)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    without, told, kept = done.stdout.split()
    if told != "True":
        pytest.skip("the C library has no mallopt")
    if int(without) < ROUNDS:
        pytest.skip("this C library keeps the memory of its own accord")
    assert int(kept) < 0.7 * int(without)
