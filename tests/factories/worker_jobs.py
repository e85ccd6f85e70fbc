"""Work for the workers of the tests, which are other processes: it must be importable by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from mien.apps.batch.batch import BatchJob, encode_clip
from mien.errors import InputError


def logged_encode(job: BatchJob, device: str) -> dict[str, Any]:
    """`encode_clip`, with a line in `log` beside the outputs when it begins and when it has ended."""
    log = job.output.parent / "log"
    _write(log, f"begin {job.name}")
    report = encode_clip(job, device)
    _write(log, f"end {job.name}")
    return report


def fickle(job: tuple[Path, int], device: str) -> int:
    """Squares; kills its own process over -1, always, and over 2 when it sees it for the first time; raises over 5."""
    folder, number = job
    if number == 5:
        raise InputError("five is right out.")
    mark = folder / "seen"
    if number == -1 or (number == 2 and not mark.exists()):
        if number == 2:
            mark.touch()
        os.kill(os.getpid(), 9)
    time.sleep(0.05)
    return number**2


def _write(log: Path, line: str) -> None:
    with open(log, "a") as file:
        file.write(f"{line} {os.getpid()}\n")


def begun_and_ended(log: Path) -> tuple[list[str], list[str], dict[str, int]]:
    """Clips begun and clips ended, in order, and the process that each clip is at work in now."""
    begun, ended, at_work = [], [], {}
    for line in log.read_text().splitlines() if log.exists() else []:
        kind, name, pid = line.split()
        (begun if kind == "begin" else ended).append(name)
        if kind == "begin":
            at_work[name] = int(pid)
        else:
            at_work.pop(name, None)
    return begun, ended, at_work
