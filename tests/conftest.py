"""Fixtures of the tests: packs of tiny networks, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from factories import TESTS
from factories.commands import Run
from factories.packs import tiny_pack
from mien.apps.cli.cli import main
from mien.packs.pack import Pack


def pytest_configure() -> None:
    """One thread, as `make test` has it: what threads share differs in its last digits, and a stage's runs in length."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs the embedded pack, and what trains."""
    for item in items:
        if "mini" in getattr(item, "fixturenames", ()):
            item.add_marker("pack")
        if item.path.is_relative_to(TESTS / "unit" / "train"):
            item.add_marker("train")


@pytest.fixture(scope="session")
def pack_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of tiny random networks as a file."""
    path = tmp_path_factory.mktemp("pack") / "tiny.safetensors"
    tiny_pack().save(path, half=False)
    return path


@pytest.fixture(scope="session")
def pack(pack_file: Path) -> Pack:
    """The pack of `pack_file`, read once for all tests: none may change its networks."""
    return Pack.load(pack_file)


@pytest.fixture(scope="session")
def mini() -> Pack:
    """The embedded pack, read once for all tests: none may change its networks."""
    return Pack.load("mini")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command of `mien` in this process; returns its exit code, its stdout and its stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return command


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same state of torch's own random numbers, whichever tests ran before."""
    torch.manual_seed(0)
