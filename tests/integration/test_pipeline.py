"""The whole pipeline on a tiny random pack, on a real face that is moved about: seconds, no shared data."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from factories.packs import tiny_pack
from mien.api import encode_with_report
from mien.errors import InputError
from mien.format.stream import Stream
from mien.format.weights_codec import apply_delta, encode_delta
from mien.media.video import read_video, write_video
from mien.method.stage6_render.render import render
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.personalize.options import RefinementOptions, TuningOptions
from mien.reenact.options import PuppetOptions
from mien.reenact.puppeteer import puppeteer
from mien.report import STAGES

FRAMES = 7


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real face that shifts and turns a little."""
    path = tmp_path_factory.mktemp("clip") / "face.mp4"
    image = astronaut()[:400, :400]
    frames = []
    for t in range(FRAMES):
        matrix = cv2.getRotationMatrix2D((224, 110), 2.0 * np.sin(t), 1.0)
        matrix[:, 2] += [2 * t, t]
        frames.append(cv2.warpAffine(image, matrix, (400, 400), borderMode=cv2.BORDER_REFLECT))
    write_video(path, frames, Fraction(25))
    return path


def quick(seed: int = 0) -> EncodeOptions:
    """Tuning in seconds: the tiny pack needs no more."""
    return replace(
        EncodeOptions.mien(), tuning=TuningOptions(steps=80, passes=0), refinement=RefinementOptions(steps=40, passes=0),
        seed=seed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def encoded(clip: Path, pack: Pack) -> tuple[Stream, dict]:
    stream, report = encode_with_report(clip, options=quick(3), pack=pack)
    return stream, report.to_json()


def test_report_and_stream_account_for_the_clip(encoded: tuple[Stream, dict]) -> None:
    stream, report = encoded
    assert len(stream) == report["frames"] == FRAMES
    assert stream.frames.shape == (FRAMES, 35) and stream.frames.dtype == np.float16
    assert report["bytes"]["per_frame"] == 70
    assert report["bytes"]["total"] == len(stream.to_bytes())
    assert set(report["seconds"]) == {*STAGES, "total"}
    assert all(np.isfinite(report["psnr"][k]) for k in ("inversion", "fit", "resynthesis"))
    assert stream.placement is not None and np.ptp(stream.frames[:, 0].astype(float)) > 1.0  # the roll was seen


def test_what_is_decoded_is_what_the_encoder_saw(encoded: tuple[Stream, dict], pack: Pack, tmp_path: Path) -> None:
    stream, _ = encoded
    stream.save(tmp_path / "a.mien")
    again = Stream.load(tmp_path / "a.mien")
    first = np.stack(list(render(stream, pack=pack)))
    second = np.stack(list(render(again, pack=pack)))
    assert first.shape == (FRAMES, 64, 64, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


def test_tuning_and_fitting_bring_the_render_closer(clip: Path, pack: Pack, encoded: tuple[Stream, dict]) -> None:
    _, plain = encode_with_report(clip, pack=pack, tune=False)
    assert plain.to_json()["bytes"]["tuning"] == 0
    assert encoded[1]["psnr"]["resynthesis"] > plain.psnr["resynthesis"] + 3


def test_the_same_seed_gives_the_same_file(clip: Path, pack: Pack, encoded: tuple[Stream, dict]) -> None:
    again, _ = encode_with_report(clip, options=quick(3), pack=pack)
    assert again.to_bytes() == encoded[0].to_bytes()


def test_aligned_input_has_no_roll_and_no_placement(pack: Pack, tmp_path: Path) -> None:
    face = cv2.resize(astronaut()[0:230, 110:340], (256, 256))
    write_video(tmp_path / "crops.mp4", [face] * 3, Fraction(30))
    stream, report = encode_with_report(tmp_path / "crops.mp4", pack=pack, aligned=True, tune=False)
    assert stream.placement is None and not stream.frames[:, 0].any()
    assert stream.fps == 30 and report.frames == 3


def test_inversions_are_written_and_real_frames_may_be_the_target(pack: Pack, tmp_path: Path) -> None:
    """S_t as stages 4 and 5 see it, for `mien evaluate`; and the paper's ablation that fits I_t."""
    face = cv2.resize(astronaut()[0:230, 110:340], (64, 64), interpolation=cv2.INTER_AREA)
    write_video(tmp_path / "crops.mkv", [face, np.roll(face, 2, 1)], Fraction(30))
    kept = {"pack": pack, "aligned": True, "tune": False}
    fitted, report = encode_with_report(tmp_path / "crops.mkv", inversions=tmp_path / "s.mkv", **kept)
    inversions = list(read_video(tmp_path / "s.mkv"))
    errors = [
        np.square(a.astype(float) - b).mean() for a, b in zip(inversions, (face, np.roll(face, 2, 1)), strict=True)
    ]
    assert np.mean(10 * np.log10(255**2 / np.array(errors))) == pytest.approx(report.psnr["inversion"], abs=0.01)
    real, _ = encode_with_report(tmp_path / "crops.mkv", real_targets=True, **kept)
    np.testing.assert_array_equal(fitted.frames[:, :3], real.frames[:, :3])
    assert (fitted.frames[:, 3:] != real.frames[:, 3:]).any()


def test_more_effort_is_more_steps_of_tuning_and_nonsense_is_refused(pack: Pack, tmp_path: Path) -> None:
    face = cv2.resize(astronaut()[0:230, 110:340], (64, 64), interpolation=cv2.INTER_AREA)
    write_video(tmp_path / "crops.mkv", [face, np.roll(face, 2, 1)], Fraction(30))
    kept = {"pack": pack, "aligned": True}
    little, some = (encode_with_report(tmp_path / "crops.mkv", effort=e, **kept)[1].psnr for e in (0.1, 0.6))
    assert some["resynthesis"] > little["resynthesis"] + 0.5
    for effort in (0.0, 11.0, float("nan")):
        with pytest.raises(InputError, match="effort"):
            encode_with_report(tmp_path / "crops.mkv", effort=effort, **kept)


def test_puppet_keeps_the_portrait_and_moves_with_the_driver(encoded: tuple[Stream, dict], pack: Pack) -> None:
    stream, _ = encoded
    puppet = puppeteer(stream, astronaut()[:400, :400], pack=pack, options=PuppetOptions(tuning=None))
    assert len(puppet) == len(stream)
    np.testing.assert_array_equal(puppet.frames[:, :3], stream.frames[:, :3])
    # The channels differ from the driver's by one offset for the whole clip.
    offset = puppet.frames[:, 3:].astype(np.float32) - stream.frames[:, 3:].astype(np.float32)
    assert np.abs(offset - offset[0]).max() < 0.02
    assert not np.array_equal(puppet.identity, stream.identity)


def test_delta_round_trip_is_within_a_step(pack: Pack) -> None:
    other = tiny_pack(1).generator
    back = apply_delta(pack.generator, encode_delta(pack.generator, other))
    for (name, wanted), (_, base), (_, got) in zip(
        other.named_parameters(), pack.generator.named_parameters(), back.named_parameters(), strict=True
    ):
        if ".affine." in name:
            assert torch.equal(got, base)
        else:
            step = float((wanted - base).abs().max()) / 127
            assert float((got - wanted).abs().max()) <= 0.51 * step + 1e-7
