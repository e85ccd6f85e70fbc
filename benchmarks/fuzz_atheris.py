"""Coverage-guided fuzzing of the reader with libFuzzer, by atheris (`pip install atheris`, no dependency of mien's).

    python benchmarks/fuzz_atheris.py runs/corpus -max_total_time=600

The mutations are libFuzzer's on the raw bytes and, every second time, those of fuzz_stream.py, which know the parts and
make the checksums right again. A finding is what fuzz_stream.py calls one (any exception but the format's own, more than
a second, no sentence), or more than 500 MB; libFuzzer writes it to the folder at work and ends. Other options are
libFuzzer's.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mien"], enable_loader_override=False):
    import fuzz_stream

SEEDS = fuzz_stream.seeds()


def check(data: bytes) -> None:
    """One input, read in every way there is."""
    wrong = fuzz_stream.use(data)
    if wrong:
        raise RuntimeError(wrong)


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """libFuzzer's mutation, or one that knows the format."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return atheris.Mutate(data, most)
    return fuzz_stream.mutate(bytes(data), SEEDS, rng)[:most]


def main() -> None:
    """Fills an empty corpus with the seeds and hands over to libFuzzer, which does not return."""
    folders = [Path(word) for word in sys.argv[1:] if not word.startswith("-")] or [Path("runs/corpus")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (folders[0] / f"seed{number}.mien").write_bytes(seed)
    words = [word for word in sys.argv[1:] if word.startswith("-")]
    # Seconds by the clock; those of the processor are counted by fuzz_stream.use.
    limits = ["-timeout=30", "-rss_limit_mb=500", "-max_len=8192", "-artifact_prefix=" + str(folders[0]) + "/found-"]
    atheris.Setup([sys.argv[0], *limits, *words, *map(str, folders)], check, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
