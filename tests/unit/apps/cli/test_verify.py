"""`mien verify`: comment, content credentials and mark, read back; its exit codes."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from factories import ROOT
from factories.commands import Run
from factories.streams import make_stream
from mien.apps.cli.common import write_frames
from mien.media.video import read_video, write_video

KEYS = {"synthetic", "watermark", "c2pa", "comment"}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stream, a video that is written as renders are, and the same with no mark and no comment."""
    folder = tmp_path_factory.mktemp("rendered")
    stream = dataclasses.replace(make_stream(5), fps=Fraction(25))
    stream.save(folder / "a.mien")
    frames = [cv2.resize(f, (256, 256), interpolation=cv2.INTER_AREA) for f in
              read_video(ROOT / "examples" / "clip.mp4", duration=1)]  # fmt: skip
    write_frames(stream, folder / "marked.mp4", frames)
    write_frames(stream, folder / "unmarked.mp4", frames, watermark=False)
    write_video(folder / "plain.mp4", frames, 25)
    write_video(folder / "stripped.mp4", read_video(folder / "marked.mp4"), 25)
    return folder


def test_a_render_is_found_by_its_comment_and_its_mark(rendered: Path, run: Run) -> None:
    code, out, _ = run("verify", rendered / "marked.mp4", "--json", "--stream", rendered / "a.mien")
    facts = json.loads(out)
    assert code == 0 and set(facts) == KEYS and facts["synthetic"] and facts["c2pa"] is None
    assert facts["watermark"]["found"] and facts["watermark"]["p_value"] < 1e-6
    assert facts["watermark"]["stream_p_value"] < 1e-3
    assert facts["comment"].startswith("Synthetic: rendered by mien")


def test_without_metadata_the_mark_says_it(rendered: Path, run: Run) -> None:
    code, out, _ = run("verify", rendered / "stripped.mp4", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["synthetic"] and facts["watermark"]["found"] and facts["comment"] is None


def test_no_watermark_leaves_the_comment(rendered: Path, run: Run) -> None:
    code, out, _ = run("verify", rendered / "unmarked.mp4", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["synthetic"] and not facts["watermark"]["found"]


def test_a_recording_is_not_found(rendered: Path, run: Run) -> None:
    code, out, _ = run("verify", rendered / "plain.mp4", "--json")
    facts = json.loads(out)
    assert code == 3 and not facts["synthetic"] and not facts["watermark"]["found"]
    code, out, _ = run("verify", rendered / "plain.mp4")
    assert code == 3 and "not found" in out and "does not make it a recording" in out


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4"])
def test_what_is_no_video_gets_one_sentence(tmp_path: Path, run: Run, name: str) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    code, out, err = run("verify", tmp_path / name, "--json")
    assert code == 2 and not out and err.startswith("mien: ") and err.count("\n") == 1


def test_a_short_and_a_tiny_video_can_be_read(tmp_path: Path, run: Run) -> None:
    write_video(tmp_path / "tiny.mp4", [np.zeros((16, 16, 3), np.uint8)], 25)
    assert run("verify", tmp_path / "tiny.mp4", "--json")[0] == 3
