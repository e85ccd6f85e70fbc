"""Encode, render and puppeteer end to end on a small pack of the kinds of network that official checkpoints fill."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from factories.packs import official_pack
from mien.api import encode_with_report
from mien.format.stream import Stream
from mien.media.video import write_video
from mien.method.stage6_render.render import render
from mien.packs.convert.verify import verify
from mien.packs.pack import Pack
from mien.reenact.options import PuppetOptions
from mien.reenact.puppeteer import puppeteer
from mien.report import EncodeReport

pytestmark = pytest.mark.slow

FRAMES = 4


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "official-kinds.safetensors"
    official_pack().save(path, half=False)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "face.mp4"
    frames = []
    for t in range(FRAMES):
        matrix = np.float32([[1, 0, 2 * t], [0, 1, t]])
        frames.append(cv2.warpAffine(astronaut()[:400, :400], matrix, (400, 400), borderMode=cv2.BORDER_REFLECT))
    write_video(path, frames, Fraction(25))
    return path


def test_it_is_verified_and_says_what_it_can_do(official: Path) -> None:
    text = "\n".join(verify(official))
    for slot in ("generator", "encoder: e4e", "flow: styleflow", "identity: arcface", "parser: bisenet", "lpips_alex"):
        assert slot in text
    pack = Pack.load(official)
    assert pack.landmark_reader is None and not pack.channels_absolute and "cannot run" not in text
    assert pack.people.shape == (32, pack.generator.num_ws, 32)


@pytest.fixture(scope="module")
def untuned(official: Path, clip: Path) -> tuple[Stream, EncodeReport]:
    return encode_with_report(clip, pack=Pack.load(official), tune=False)


def test_a_clip_is_encoded_and_rendered(official: Path, untuned: tuple[Stream, EncodeReport]) -> None:
    stream, report = untuned
    assert stream.frames.shape == (FRAMES, 35) and not stream.tuning
    assert all(np.isfinite(report.psnr[k]) for k in ("inversion", "fit", "resynthesis"))
    pack = Pack.load(official)
    frames = np.stack(list(render(stream, pack=pack)))
    assert frames.shape == (FRAMES, pack.resolution, pack.resolution, 3)


def test_the_generator_is_tuned_towards_the_frames(
    official: Path, clip: Path, untuned: tuple[Stream, EncodeReport]
) -> None:
    stream, report = encode_with_report(clip, pack=Pack.load(official), effort=0.1)
    assert stream.tuning and report.psnr["resynthesis"] > untuned[1].psnr["resynthesis"]


def test_another_face_is_driven(official: Path, untuned: tuple[Stream, EncodeReport]) -> None:
    driver, pack = untuned[0], Pack.load(official)
    # Of such packs changes are taken, not values.
    options = PuppetOptions(tuning=None)
    puppet = puppeteer(driver, astronaut()[:400, 399::-1].copy(), pack=pack, options=options)
    assert puppet.frames.shape == driver.frames.shape and not np.array_equal(puppet.identity, driver.identity)
    np.testing.assert_array_equal(puppet.frames[:, 3:], driver.frames[:, 3:])
    assert len(list(render(puppet, pack=pack))) == FRAMES
