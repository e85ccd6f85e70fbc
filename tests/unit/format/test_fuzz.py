"""A small share of benchmarks/fuzz_stream.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from factories import ROOT


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = ROOT / "benchmarks" / "fuzz_stream.py"
    spec = importlib.util.spec_from_file_location("fuzz_stream", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_stream"] = module
    spec.loader.exec_module(module)
    return module


def test_mutated_files_get_numbers_or_the_formats_own_error(fuzz: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "x.mien"
    kinds = {"read": 0, "refused": 0}
    for data in fuzz.blind(600, seed=1):
        assert fuzz.use(data, path) == ""
        try:
            fuzz.Stream.from_bytes(data)
            kinds["read"] += 1
        except fuzz.StreamError:
            kinds["refused"] += 1
    assert min(kinds.values()) > 20, "the mutations are all too wild or all too tame"


def test_the_seeds_are_sound(fuzz: ModuleType) -> None:
    for data in fuzz.seeds():
        assert fuzz.Stream.from_bytes(data).to_bytes() == data
