"""Stage 1 on files as phones and cameras write them, through the command line: turned, 10-bit, of variable rate, 4K."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from factories.clips import make_clip
from factories.faces import face
from mien.apps.cli.cli import main
from tolerances import DEGREES, PIXELS

FACE = np.s_[:300, 60:380]


def frames(count: int) -> list[np.ndarray]:
    """A face that moves to the right by two pixels a frame."""
    image = np.pad(face()[FACE], ((0, 0), (0, 2 * count), (0, 0)), mode="edge")
    return [np.ascontiguousarray(image[:, 2 * (count - i) : 2 * (count - i) + 320]) for i in range(count)]


def aligned(clip: Path, *options: str) -> dict[str, Any]:
    facts = clip.with_suffix(".json")
    assert main(["align", str(clip), "-o", str(clip.with_suffix(".out.mkv")), "--json", str(facts), *options]) == 0
    return json.loads(facts.read_text())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return aligned(make_clip(tmp_path_factory.mktemp("plain") / "plain.mp4", frames(5)))


def test_every_frame_has_its_quad_roll_key_frame_and_residual(plain: dict[str, Any]) -> None:
    assert plain["frames"] == 5 and np.shape(plain["quads"]) == (5, 4, 2)
    assert plain["key_frame"] == [0] * 5 and np.ptp(plain["roll"]) < DEGREES
    assert plain["residual"][0] == 0 and all(0 < r < 6 for r in plain["residual"][1:])
    assert not any(plain["lost"]) and not any(plain["bridged"]) and plain["cuts"] == []


def test_a_turned_phone(plain: dict[str, Any], tmp_path: Path) -> None:
    turned = [np.ascontiguousarray(np.rot90(frame, -1)) for frame in frames(5)]
    found = aligned(make_clip(tmp_path / "turned.mp4", turned, rotation=90))
    assert found["frame_size"] == [320, 300]
    assert np.abs(np.array(found["quads"]) - plain["quads"]).max() < PIXELS


def test_ten_bits(tmp_path: Path) -> None:
    # Lossless both: against a lossy clip the first mesh, which sets the framing, differs by 1.3 to 1.6 pixels.
    plain = aligned(make_clip(tmp_path / "plain.mkv", frames(5), codec="ffv1", pix_fmt="yuv420p"))
    deep = aligned(make_clip(tmp_path / "deep.mkv", frames(5), codec="ffv1", pix_fmt="yuv420p10le"))
    assert np.abs(np.array(deep["quads"]) - plain["quads"]).max() < PIXELS


def test_a_variable_rate(tmp_path: Path) -> None:
    # Lossless: x264 does not write the same pictures in every process, and what it leaves of them can pass for motion.
    lossless = {"codec": "ffv1", "pix_fmt": "yuv420p"}
    plain = aligned(make_clip(tmp_path / "plain.mkv", frames(5), **lossless))
    gap = make_clip(tmp_path / "gap.mkv", frames(5), pts=[0, 40, 80, 200, 240], **lossless)
    quads = np.array(aligned(gap)["quads"])
    assert len(quads) == 7 and (quads[2:5] == quads[2]).all(), "a frame that is shown longer stands still"
    assert np.abs(quads[[0, 1, 2, 5, 6]] - plain["quads"]).max() < PIXELS


def test_four_k(plain: dict[str, Any], tmp_path: Path) -> None:
    large = [
        np.pad(cv2.resize(f, (2304, 2160), interpolation=cv2.INTER_CUBIC), ((0, 0), (1536, 0), (0, 0)))
        for f in frames(5)[:2]
    ]
    clip = make_clip(tmp_path / "large.mp4", large, options={"preset": "ultrafast"})
    quads = (np.array(aligned(clip)["quads"]) - [1536, 0]) / 7.2
    assert np.abs(quads - plain["quads"][:2]).max() < 4


def test_one_of_two_faces(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = cv2.resize(face(), (300, 300), interpolation=cv2.INTER_AREA)
    frame = np.zeros((512, 812, 3), np.uint8)
    frame[100:400, :300], frame[:, 300:] = small, face()
    clip = make_clip(tmp_path / "two.mp4", [frame] * 2)
    sides = [np.ptp(np.array(aligned(clip, *options)["quads"])[0, :, 0]) for options in ((), ("--face", "1"))]
    assert sides[1] == pytest.approx(sides[0] * 300 / 512, rel=0.08)
    assert main(["align", str(clip), "-o", str(tmp_path / "no.mkv"), "--face", "3"]) == 2
    assert "there are 2 faces" in capfd.readouterr().err and not (tmp_path / "no.mkv").exists()
