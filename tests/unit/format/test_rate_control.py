"""From a wanted image quality to coded frames, on a pack of random networks, and `mien transcode`."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from factories.clips import astronaut_clip
from factories.commands import Run
from factories.packs import tiny_pack
from factories.streams import flipped, make_stream, offset_of
from mien.apps.cli.cli import main
from mien.format import motion_codec
from mien.format.rate_control import transcode
from mien.format.stream import Stream
from mien.method.stage6_render.render import render
from mien.method.stage6_render.render_probe import RenderProbe
from mien.packs.pack import Pack


@pytest.fixture(scope="module")
def pack() -> Pack:
    return tiny_pack()


@pytest.fixture(scope="module")
def stream(pack: Pack) -> Stream:
    time = np.arange(40)[:, None] / 25
    rng = np.random.RandomState(0)
    frames = 0.4 * np.sin(2 * np.pi * (rng.uniform(0.3, 2, 35) * time + rng.rand(35)))
    frames[:, :3] *= 20
    return dataclasses.replace(
        make_stream(40),
        pack=pack.fingerprint,
        pack_name="tiny",
        resolution=64,
        channels=np.array([[c.layer, c.index] for c in pack.channels], np.int16),
        identity=rng.randn(pack.generator.num_ws, 32),
        frames=frames,
    )


def test_the_render_has_the_quality_that_was_asked_for(stream: Stream, pack: Pack) -> None:
    images = np.stack(list(render(stream, pack=pack, device="cpu"))).astype(float)
    still = 10 * np.log10(255**2 / ((images - images[:1]) ** 2).mean())
    sensitivity = RenderProbe(stream, pack=pack, device="cpu").sensitivity(3)
    assert not sensitivity[0].any() and (sensitivity.diagonal()[1:] > 0).all()
    sizes = []
    for quality in (40, 46):
        coded = transcode(stream, quality=quality, sensitivity=sensitivity)
        sizes.append(len(coded.coded))
        got = np.stack(list(render(coded, pack=pack, device="cpu"))).astype(float)
        psnr = 10 * np.log10(255**2 / ((images - got) ** 2).mean())
        assert quality - 1.5 < psnr < quality + 4 and psnr > still + 6, (quality, psnr, still)
    assert sizes[0] < sizes[1] < 40 * 35


def test_the_worst_frame_has_the_quality_that_was_asked_for(stream: Stream, pack: Pack) -> None:
    """The loop is closed: what is asked is what the decoder's renders have, for little more than that takes."""
    stream = dataclasses.replace(stream, frames=stream.frames[:16])
    images = np.stack(list(render(stream, pack=pack, device="cpu"))).astype(float)
    probe = RenderProbe(stream, pack=pack, device="cpu")
    sensitivity = probe.sensitivity(1)
    coded = transcode(stream, quality=42, sensitivity=sensitivity, look=probe.psnr)
    errors = ((np.stack(list(render(coded, pack=pack, device="cpu"))) - images) ** 2).reshape(16, -1).mean(1)
    seen = 10 * np.log10(255**2 / errors)
    assert 42 <= seen.min() < 44
    assert np.allclose(probe.psnr(coded.frames), seen, atol=0.1)
    look = itertools.count(50)
    finest = transcode(stream, quality=60, sensitivity=sensitivity, look=lambda frames: np.array([next(look), 99.0]))
    assert len(finest.coded) > 1.5 * len(coded.coded), "where it cannot be had, the finest comes nearest"


def test_the_command_codes_and_makes_plain_again(
    stream: Stream, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, small, back = tmp_path / "a.mien", tmp_path / "b.mien", tmp_path / "c.mien"
    stream = dataclasses.replace(stream, pack_name="nowhere")  # a pack that is not here
    stream.save(source)
    assert main(["transcode", str(source), "-o", str(small), "--rate", "6000", "--key-interval", "10"]) == 0
    out, err = capfd.readouterr()
    assert "steps are taken from the curves alone" in err and str(small) in out
    coded = Stream.load(small)
    assert 4000 < coded.rates()["frames"] <= 6000 and motion_codec.read_info(coded.coded).key_interval == 10
    assert main(["transcode", str(small), "-o", str(back), "--raw"]) == 0
    plain = Stream.load(back)
    assert plain.accounting()["per_frame"] == 70 and np.array_equal(plain.frames, coded.frames)

    data = small.read_bytes()
    small.write_bytes(flipped(data, offset_of(data, "CODE") + motion_codec.read_info(coded.coded).blocks[2][0] + 3))
    before = back.read_bytes()
    assert main(["transcode", str(small), "-o", str(back), "--raw"]) == 2
    assert back.read_bytes() == before and "frames 20 to 29" in capfd.readouterr().err
    assert main(["transcode", str(small), "-o", str(back), "--raw", "--salvage"]) == 0
    assert "frames 20 to 29" in capfd.readouterr().err and len(Stream.load(back)) == 40


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--quality", "1000"], "must be 10 to 90 dB"),
        (["--rate", "1"], "cannot be reached"),
        (["--rate", "3500", "--quality", "40"], "not both"),
        (["--raw", "--quality", "40"], "goes with none"),
        (["--raw", "--key-interval", "9"], "goes with none"),
        (["--key-interval", "0"], "key-interval"),
    ],
)
def test_the_command_refuses_in_a_sentence(
    options: list[str], sentence: str, stream: Stream, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataclasses.replace(stream, pack_name="nowhere").save(tmp_path / "a.mien")
    assert main(["transcode", str(tmp_path / "a.mien"), "-o", str(tmp_path / "b.mien"), *options]) == 2
    assert sentence in capfd.readouterr().err and not (tmp_path / "b.mien").exists()


def test_encoding_goes_on_after_a_rate_that_cannot_be_reached(run: Run, tmp_path: Path, pack_file: Path) -> None:
    """That a clip cannot be coded so is known when it is encoded: what that took is not to be lost."""
    clip, output = astronaut_clip(tmp_path / "a.mp4", count=8), tmp_path / "a.mien"
    arguments = ["encode", clip, "-o", output, "--pack", pack_file, "--no-tune", "--rate"]
    code, _, err = run(*arguments, "1000")
    assert code == 2 and "cannot be reached" in err and not output.exists()
    assert list((tmp_path / "a.mien.work").glob("*.npz"))
    report = tmp_path / "r.json"
    assert run(*arguments, "12000", "--json", report)[0] == 0
    assert "align" in json.loads(report.read_text())["resumed"]
    assert sorted(p.name for p in tmp_path.glob("a.mien*")) == ["a.mien"]


def test_encode_with_a_rate_writes_coded_frames(run: Run, tmp_path: Path, pack_file: Path) -> None:
    clip = astronaut_clip(tmp_path / "a.mp4", count=8)
    output, report = tmp_path / "a.mien", tmp_path / "r.json"
    options = ["--pack", pack_file, "--no-tune", "--rate", "12000", "--json", report]
    code, _, err = run("encode", clip, "-o", output, *options)
    assert code == 0, err
    coded, facts = Stream.load(output), json.loads(report.read_text())
    assert coded.coded and 0 < coded.rates()["frames"] <= 12000
    assert facts["rate"] == coded.rates() and facts["bytes"] == coded.accounting()
