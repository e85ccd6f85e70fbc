"""`mien live` that is ended by Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories.commands import Run
from mien.apps.telepresence.statistics import LiveStatistics


class Ended:
    """A session that ends before its first picture, as `end` says."""

    end: BaseException | None = None

    def __init__(self, *parts: Any) -> None:
        self.statistics = LiveStatistics(25.0)

    def run(self) -> None:
        if self.end is not None:
            raise self.end


@pytest.mark.parametrize(
    ("end", "code", "sentence"),
    [(KeyboardInterrupt(), 130, "interrupted"), (None, 2, "gave no frames")],
)
def test_an_end_before_the_first_picture(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException | None, code: int, sentence: str
) -> None:
    """Ctrl-C is said as everywhere else, and a source that ends by itself is bad input."""
    monkeypatch.setattr(Ended, "end", end)
    monkeypatch.setattr("mien.apps.telepresence.session.LiveSession", Ended)
    monkeypatch.setattr("mien.apps.telepresence.face.live_face", lambda *parts: None)
    monkeypatch.setattr("mien.apps.telepresence.sources.live_source", lambda *parts: None)
    monkeypatch.setattr("mien.apps.cli.live._outputs", lambda *parts: ([], None))
    found, out, err = run("live", "--person", tmp_path / "me.mien", "--json", tmp_path / "x.json")
    assert (found, out) == (code, "") and sentence in err and not list(tmp_path.iterdir())
