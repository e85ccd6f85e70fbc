"""`mien encode --cuts split`: parts that are there are not made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories.clips import make_clip, pictures
from factories.commands import Run
from mien.apps.cli import encode as command
from mien.errors import PersonChangeError
from mien.options import EncodeOptions


class Encoder:
    """Writes parts as the real one would, and notes their names; the user stops it at the second, once."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.stopped = False

    def __call__(self, clip: Path, output: Path, options: EncodeOptions, **_: Any) -> None:
        if output.name == "out.mien":
            raise PersonChangeError([3, 6], [0.12, 0.24])
        if output.name == "out-2.mien" and not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt
        self.made.append(output.name)
        output.write_text(f"{options.clip.start:.2f} {options.clip.duration}")


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """In place of the real one."""
    made = Encoder()
    monkeypatch.setattr(command, "_encode", made)
    return made


@pytest.fixture
def arguments(tmp_path: Path, pack_file: Path) -> list[object]:
    clip = make_clip(tmp_path / "clip.mp4", pictures(9))
    return ["encode", clip, "-o", tmp_path / "out.mien", "--pack", pack_file, "--cuts", "split"]


def test_parts_that_are_there_are_not_made_again(
    run: Run, tmp_path: Path, encoder: Encoder, arguments: list[object]
) -> None:
    code, _, err = run(*arguments)
    assert code == 130 and "goes on from there" in err
    assert encoder.made == ["out-1.mien"]
    assert run(*arguments)[0] == 0
    assert encoder.made == ["out-1.mien", "out-2.mien", "out-3.mien"]
    assert (tmp_path / "out-3.mien").read_text() == "0.24 None"
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out-1.mien", "out-2.mien", "out-3.mien"]


def test_a_part_that_was_changed_is_made_again(
    run: Run, tmp_path: Path, encoder: Encoder, arguments: list[object]
) -> None:
    run(*arguments)
    (tmp_path / "out-1.mien").write_text("something else")
    assert run(*arguments)[0] == 0
    assert encoder.made[:2] == ["out-1.mien", "out-1.mien"]
    assert (tmp_path / "out-1.mien").read_text() == "0.00 0.12"
