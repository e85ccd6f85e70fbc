"""Real runs on the embedded pack and the clip that ships with the project. No shared data is needed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from factories import EXAMPLES
from mien.api import encode_with_report
from mien.face.measures import eye_openness
from mien.format.stream import Stream
from mien.media.still_images import read_image
from mien.media.video import read_video
from mien.method.stage1_align.align import already_aligned
from mien.method.stage6_render.render import render
from mien.packs.pack import Pack, locate
from mien.reenact.options import PuppetOptions
from mien.reenact.puppeteer import puppeteer


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    return np.linalg.norm(landmarks[:, 13] - landmarks[:, 14], axis=1) / np.linalg.norm(
        landmarks[:, 33] - landmarks[:, 263], axis=1
    )


def test_the_pack_is_small_complete_and_named_by_its_hash(mini: Pack) -> None:
    path = locate("mini")
    assert path.stat().st_size < 40e6
    assert mini.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(mini.channels) == 32
    assert {c.attribute for c in mini.channels} <= {"mouth", "jaw", "eyes", "brows", "gaze"}
    assert "research" in mini.card["licence"].lower()
    for slot in ("generator", "encoder", "flow", "identity", "parser", "people"):
        mini.need(slot)


def test_people_of_the_pack_have_faces(mini: Pack) -> None:
    with torch.no_grad():
        images = mini.generator.synthesis(mini.people[:6])
    frames = ((images.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    found = already_aligned(iter(list(frames)), 25.0, size=256)
    assert (~found.lost).sum() >= 5


def test_the_flow_turns_the_head(mini: Pack) -> None:
    """Asked and measured yaw go together over -15..15 degrees."""
    asked = torch.tensor([-15.0, -7.5, 0.0, 7.5, 15.0])
    measured = []
    with torch.no_grad():
        for person in mini.people[:3]:
            w = person[None].expand(5, -1, -1)
            turned = mini.flow(w, torch.zeros(5, 2), torch.stack([asked, torch.zeros(5)], 1))
            images = mini.generator.synthesis(turned)
            frames = ((images.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
            measured.append(already_aligned(iter(list(frames)), 25.0, size=256).yaw)
    assert np.corrcoef(np.mean(measured, axis=0), asked.numpy())[0, 1] > 0.95


@pytest.mark.slow
def test_encode_without_tuning_follows_the_mouth(mini: Pack) -> None:
    clip = read_video(EXAMPLES / "clip.mp4", 0.0, 1.2)
    stream, report = encode_with_report(clip, tune=False)
    assert report.psnr["fit"] > 30  # 34 numbers a frame say nearly all of S_t
    frames = list(render(stream))
    assert len(frames) == clip.frame_count and frames[0].shape[:2] == (mini.resolution, mini.resolution)
    found = already_aligned(iter(frames), 25.0, size=256)
    real = already_aligned(iter(clip), 25.0, size=256)
    assert (~found.lost).all()
    r = np.corrcoef(mouth_opening(found.landmarks), mouth_opening(real.landmarks))[0, 1]
    assert r > 0.6, r


@pytest.mark.slow
def test_the_example_stream_renders_and_drives_the_portrait(mini: Pack) -> None:
    stream = Stream.load(EXAMPLES / "clip.mien")
    assert stream.accounting()["per_frame"] == 70
    puppet = puppeteer(stream, read_image(EXAMPLES / "portrait.png"), options=PuppetOptions(tuning=None))
    driver = already_aligned(render(stream), 25.0, size=256)
    driven = already_aligned(render(puppet), 25.0, size=256)
    r = np.corrcoef(mouth_opening(driver.landmarks), mouth_opening(driven.landmarks))[0, 1]
    assert r > 0.5, r
    assert eye_openness(driven.landmarks).shape == (len(stream),)
