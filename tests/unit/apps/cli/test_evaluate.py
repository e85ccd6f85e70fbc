"""`mien evaluate --suite` on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories.commands import Run
from mien.errors import InputError


@pytest.mark.parametrize(("given", "jobs"), [([], None), (["--jobs", "3"], 3)])
def test_as_many_workers_as_were_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], jobs: int | None
) -> None:
    asked: list[object] = []

    class NoSuite:
        jobs = ()

    def run_suite(suite: Any, folder: Path, *, workers: int, make_pool: Any, tick: Any) -> Any:
        make_pool(8)

    def make_pool(work: Any, count: int, ray: str | None, jobs: int | None) -> Any:
        asked.extend([count, ray, jobs])
        raise InputError("seen")

    monkeypatch.setattr("mien.evaluate.suite.read_suite", lambda path: NoSuite)
    monkeypatch.setattr("mien.evaluate.suite.run_suite", run_suite)
    monkeypatch.setattr("mien.apps.cli.evaluate.make_pool", make_pool)
    assert run("evaluate", "--suite", "s.toml", "-o", tmp_path / "out", "--ray", "auto", *given)[0] == 2
    assert asked == [8, "auto", jobs]
