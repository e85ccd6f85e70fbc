"""Outputs are looked at before any work."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

import pytest

from factories import EXAMPLES
from mien.errors import InputError, OutputError
from mien.media.video import read_video
from mien.runtime.files import check_output_folder, write_bytes, write_text


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


def test_a_pipe_is_written_to_and_a_link_led_on(tmp_path: Path) -> None:
    """Neither is replaced by a plain file."""
    pipe, link, real = tmp_path / "pipe", tmp_path / "link.txt", tmp_path / "real.txt"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_bytes(pipe, b"all of it")
    reader.join(10)
    assert read == [b"all of it"] and pipe.is_fifo()
    real.write_text("before")
    link.symlink_to(real)
    write_text(link, "after")
    assert link.is_symlink() and real.read_text() == "after"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.txt", "pipe", "real.txt"]
