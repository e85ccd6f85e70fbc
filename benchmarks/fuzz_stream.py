"""Throws mutated `.mien` files at the reader, which may answer with numbers or with the format's own error, soon.

    python benchmarks/fuzz_stream.py --count 100000            blind mutations, the same ones for the same seed
    python benchmarks/fuzz_stream.py --guided 600              ten minutes, keeping what reaches new lines

A finding is any exception but InputError and its kin, an answer after more than a second, or an allocation beyond
500 MB over the start. Findings are written to --keep.
Half of the mutations make the checksums right again, since few others get past the first of them.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from factories.mutations import blind, mutate, seeds, use

MEMORY = 500 << 20
GUARDED = (
    "bounded_zstd.py",
    "container.py",
    "limits.py",
    "motion_codec.py",
    "motion_prediction.py",
    "range_coder.py",
    "sections.py",
    "stream.py",
)


def guided(seconds: float, seed: int) -> Iterator[bytes]:
    """Mutations for `seconds`, of the seeds and of every earlier mutation that went from one line to another anew."""
    rng = random.Random(seed)
    corpus = seeds()
    seen: set[tuple[str, int, int]] = set()
    fresh: list[bool] = []
    last: dict[str, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.endswith(GUARDED):
            return None
        if event == "line":
            step = (name, last.get(name, 0), frame.f_lineno)
            last[name] = frame.f_lineno
            if step not in seen:
                seen.add(step)
                fresh.append(True)
        return trace

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutate(rng.choice(corpus), corpus, rng)
        fresh.clear()
        last.clear()
        sys.settrace(trace)
        try:
            yield data  # the caller reads it under the trace
        finally:
            sys.settrace(None)
        if fresh and len(data) < 20_000:
            corpus.append(data)
    print(f"corpus of {len(corpus):,}, {len(seen):,} steps between lines")


def main() -> int:
    """Runs the fuzzer; 1 when there was a finding."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--count", type=int, default=100_000)
    options.add_argument("--guided", type=float, metavar="SECONDS")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    given = options.parse_args()
    base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, base + MEMORY))
    begun, tried, slowest, findings = time.monotonic(), 0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.mien"
        inputs = guided(given.guided, given.seed) if given.guided else blind(given.count, given.seed)
        for data in inputs:
            start = time.process_time()
            wrong = use(data, path if tried % 10 == 0 else None)
            slowest = max(slowest, time.process_time() - start)
            tried += 1
            if wrong:
                findings += 1
                given.keep.mkdir(parents=True, exist_ok=True)
                kept = given.keep / f"{zlib.crc32(data):08x}.mien"
                kept.write_bytes(data)
                print(f"{kept}: {wrong}", flush=True)
            if tried % 10_000 == 0:
                print(f"{tried:,} files, {findings} findings, {time.monotonic() - begun:.0f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{tried:,} files, {findings} findings, slowest {slowest:.3f} s of CPU time, peak {peak} MB")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
