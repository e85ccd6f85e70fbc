"""A small share of benchmarks/fuzz_stream.py."""

from __future__ import annotations

from pathlib import Path

from factories.mutations import blind, seeds, use
from mien.errors import StreamError
from mien.format.stream import Stream


def test_mutated_files_get_numbers_or_the_formats_own_error(tmp_path: Path) -> None:
    path = tmp_path / "x.mien"
    kinds = {"read": 0, "refused": 0}
    for data in blind(600, seed=1):
        assert use(data, path, seconds=30) == ""  # a hang, on a machine however slow; the benchmark asks for a second
        try:
            Stream.from_bytes(data)
            kinds["read"] += 1
        except StreamError:
            kinds["refused"] += 1
    assert min(kinds.values()) > 20, "the mutations are all too wild or all too tame"


def test_the_seeds_are_sound() -> None:
    for data in seeds():
        assert Stream.from_bytes(data).to_bytes() == data
