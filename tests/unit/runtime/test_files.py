"""Outputs are looked at before any work."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from factories import EXAMPLES
from mien.errors import InputError, OutputError
from mien.media.video import read_video
from mien.runtime.files import check_output_folder


def test_a_folder_to_write_to_is_there_or_can_be_made(tmp_path: Path) -> None:
    assert check_output_folder(tmp_path) == tmp_path and check_output_folder(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file"):
        check_output_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="does not exist"):
        check_output_folder(tmp_path / "no" / "such")


@pytest.mark.parametrize(("start", "duration"), [(math.inf, None), (math.nan, None), (0.0, math.inf), (-1.0, None)])
def test_a_time_that_is_none_is_refused(start: float, duration: float | None) -> None:
    with pytest.raises(InputError):
        read_video(EXAMPLES / "clip.mp4", start, duration)
