"""Freed memory stays with the process: a large tensor that comes again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from mien.runtime.malloc import tune_malloc
print(tune_malloc() if {keep} else True)
torch.ones(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    run = subprocess.run([sys.executable, "-c", COUNT.format(keep=keep)], capture_output=True, text=True, check=True)
    told, count = run.stdout.split()
    if told != "True":
        pytest.skip("the C library has no mallopt")
    return int(count)


def test_large_tensors_are_not_faulted_in_again() -> None:
    without = faults(False)
    assert faults(True) < 0.7 * without or without < 1000
