"""What the user sees while work runs: bars on a terminal, a line a stage in a log, nothing in the Python API."""

from __future__ import annotations

import pytest

from mien.runtime.progress import NoProgress, RichProgress


def work(progress: NoProgress | RichProgress, total: int | None) -> None:
    with progress.stage("align", total) as tick:
        for _ in range(3):
            tick(2)


def test_python_api_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    work(NoProgress(), 6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("total", [6, None])
def test_log_gets_a_line_a_stage(capfd: pytest.CaptureFixture[str], total: int | None) -> None:
    work(RichProgress(), total)
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("align: 6 frames, ") and "frames/s" in err and err.count("\n") == 1


def test_terminal_gets_a_bar(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    work(RichProgress(), 6)
    _, err = capfd.readouterr()
    assert "align" in err and "6/6" in err and "frames/s" in err and "left" in err


def test_a_stage_that_fails_says_nothing_more(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), RichProgress().stage("align", 3):
        raise KeyError
    assert capfd.readouterr().err == ""
