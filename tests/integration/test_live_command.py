"""`mien live` with the embedded pack: a clip drives a face; and the encoder reads what renders were drawn from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mien
from factories import TESTS
from factories.commands import Run
from mien.apps.telepresence.face import live_face
from mien.face.mesh import FaceMesh
from mien.face.mesh_features import facing
from mien.media.video import SYNTHETIC, probe, read_video, write_video
from mien.packs.pack import Pack

EXAMPLES = TESTS.parent / "examples"


@pytest.mark.slow
def test_a_clip_drives_a_face(run: Run, tmp_path: Path, mini: Pack) -> None:
    write_video(tmp_path / "in.mkv", list(read_video(EXAMPLES / "clip.mp4", duration=1.0)), 12)
    count = len(probe(tmp_path / "in.mkv"))
    out, stats = tmp_path / "out.mkv", tmp_path / "stats.json"
    arguments = ("--input", tmp_path / "in.mkv", "--person", EXAMPLES / "clip.mien")
    code, _, err = run("live", *arguments, "--output", out, "--json", stats)
    assert code == 0, err
    values = json.loads(stats.read_text())
    assert {"fps", "delay_ms", "kbit_s", "dropped"} <= set(values) and set(values["delay_ms"]) == {"p50", "p95"}
    assert 0 <= values["dropped"] < values["frames"] == count and values["kbit_s"] > 0
    frames = list(read_video(out))
    assert len(frames) == count and frames[0].shape == (256, 256, 3)
    assert SYNTHETIC.encode() in out.read_bytes()
    code, _, err = run("live", *arguments, "--output", tmp_path / "out.mien")
    assert code == 0, err
    assert len(mien.load(tmp_path / "out.mien")) == count


@pytest.mark.slow
def test_encoder_reads_what_renders_were_drawn_from(mini: Pack) -> None:
    face, stream = live_face(EXAMPLES / "clip.mien", None), mien.load(EXAMPLES / "clip.mien")
    paint, mesher = face.paint, FaceMesh()
    rest = face.reader.rest
    assert np.allclose(rest, facing(mesher(paint(face.neutral))[0]), atol=0.05 * np.ptp(rest))
    assert (np.abs(face.reader(mesher(paint(face.neutral))[0], rest)[3:]) < face.unit[3:]).all()
    rows = stream.frames[:: max(len(stream) // 12, 1)][:12].astype(np.float64)
    rows[:, 1], rows[:, 2] = np.linspace(-15, 15, len(rows)), 8 * np.sin(np.arange(len(rows)))
    read = np.stack([face.reader(mesher(paint(row))[0], rest) for row in rows])
    r = [np.corrcoef(read[:, i], rows[:, i])[0, 1] for i in (1, 2)]
    assert min(r) > 0.9
    mouth = [3 + i for i, c in enumerate(mini.channels) if c.attribute == "mouth"]
    most = max(mouth, key=lambda i: rows[:, i].std() / face.unit[i])
    assert np.corrcoef(read[:, most], rows[:, most])[0, 1] > 0.6
