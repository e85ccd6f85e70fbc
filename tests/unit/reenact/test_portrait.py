"""A generator tuned to one portrait, on tiny networks that draw no faces: there are no warped views, but the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from factories.packs import tiny_pack
from factories.streams import make_stream
from mien.errors import MienError, StreamError
from mien.format.person import Person
from mien.format.stream import Stream
from mien.format.weights_codec import apply_delta
from mien.method.avatar import Avatar
from mien.method.stage1_align.align import align_image
from mien.method.stage6_render.render import render
from mien.method.types import Motion
from mien.nets.stylegan2 import SynthesisLayer
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from mien.personalize import sampling
from mien.reenact.driving_motion import DrivingMotion
from mien.reenact.face_source import FaceExamples
from mien.reenact.options import PuppetOptions
from mien.reenact.portrait import PortraitTuning, personalize_portrait, sampling_probability
from mien.reenact.puppeteer import puppeteer
from mien.reenact.warp_portrait import WarpedPortraits

QUICK = PuppetOptions(tuning=PortraitTuning(steps=70, seed=1))
PLAIN = replace(QUICK, tuning=None, pivot=None)


def driver_of(pack: Pack, frames: np.ndarray) -> Stream:
    """Somebody else's motion."""
    identity = np.zeros((pack.generator.num_ws, 32), np.float16)
    return Stream(
        pack.fingerprint, pack.name, 64, make_stream().fps, channel_table(pack.channels), identity,
        frames.astype(np.float16),
    )  # fmt: skip


def test_a_tuned_portrait_is_nearer_and_still_does_what_the_driver_does(pack: Pack) -> None:
    image = astronaut()[:400, :400]
    driver = driver_of(pack, np.random.RandomState(0).randn(6, 35) * ([5] * 3 + [0.5] * 32))
    crop = align_image(image, 64).crops[0].astype(float)
    plain, tuned = (puppeteer(driver, image, pack=pack, options=options) for options in (PLAIN, QUICK))
    assert not plain.tuning and 0 < len(tuned.tuning)
    assert tuned.to_bytes() == puppeteer(driver, image, pack=pack, options=QUICK).to_bytes()
    a, b = (np.stack(list(render(s, pack=pack))).astype(float) for s in (plain, tuned))
    assert np.abs(b - crop).mean() < 0.8 * np.abs(a - crop).mean()
    assert np.abs(np.diff(b, axis=0)).mean() > 0.3 * np.abs(np.diff(a, axis=0)).mean()


def test_noise_constants_draw_what_is_around_a_portraits_face_and_hold_nothing_within() -> None:
    found = tiny_pack(noise=True)
    with torch.no_grad():
        for block in found.generator.blocks:
            if isinstance(block, SynthesisLayer):
                block.noise_strength.fill_(0.5)
    tuned = puppeteer(driver_of(found, np.zeros((2, 35))), astronaut()[:400, :400], pack=found, options=QUICK)
    blocks = zip(apply_delta(found.generator, tuned.tuning).blocks, found.generator.blocks, strict=True)
    changes = [
        (block.noise_const - before.noise_const).abs()
        for block, before in blocks
        if isinstance(block, SynthesisLayer) and isinstance(before, SynthesisLayer)
    ]
    largest = [x for x in changes if len(x) == 64]
    assert largest
    for changed in largest:
        assert changed[24:44, 24:44].max() == 0
        assert changed[:4].max() > 0 and changed[:, :4].max() > 0


def test_the_portrait_is_in_every_batch_and_its_views_share_the_rest() -> None:
    np.testing.assert_allclose(sampling_probability(4, 3), [1 / 3, *[1 / 6] * 4])
    assert sampling_probability(0, 3).tolist() == [1.0]


def test_the_portrait_is_in_every_batch_where_large_pictures_are_fewer(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "batch_at", lambda size, batch: batch if size < 64 else batch - 1)
    drawn: list[list[int]] = []
    draw = sampling.BatchSampler.draw

    def noting(self: sampling.BatchSampler, step: int, low_resolution: bool) -> sampling.Batch:
        batch = draw(self, step, low_resolution)
        drawn.append(batch.index.tolist())
        return batch

    monkeypatch.setattr(sampling.BatchSampler, "draw", noting)
    random = np.random.RandomState(0)
    crops = random.randint(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    meshes = (random.rand(5, 478, 2) * 64).astype(np.float32)
    avatar = Avatar(pack.generator, pack.flow, pack.channels, pack.people[0])
    motion = DrivingMotion.of(Motion.from_rows(random.randn(5, 35).astype(np.float16)), avatar)
    personalize_portrait(
        FaceExamples(crops[:1], meshes[:1], motion.angles[:1]), avatar, motion.part(slice(1)), motion.part(slice(1, 5)),
        WarpedPortraits(crops[1:], meshes[1:], np.arange(4)), pack, PortraitTuning(steps=12, resolution=32),
    )  # fmt: skip
    assert [len(batch) for batch in drawn] == [3] * 8 + [2] * 4
    assert all(batch.count(0) == 1 for batch in drawn)


def test_a_person_of_another_pack_is_refused(pack: Pack) -> None:
    stream = make_stream()
    person = Person.of(replace(stream, tuning=b"MTL1" + bytes(8)), "ann")
    with pytest.raises(MienError, match="pack"):
        puppeteer(driver_of(pack, np.zeros((2, 35))), person, pack=pack)


def test_a_person_whose_latent_does_not_fit_the_pack_is_refused(pack: Pack) -> None:
    driver = driver_of(pack, np.zeros((2, 35)))
    person = Person.of(replace(driver, identity=driver.identity[1:], tuning=b"MTL1" + bytes(8)), "ann")
    with pytest.raises(StreamError, match="the person's identity latent does not fit"):
        puppeteer(driver, person, pack=pack, options=PLAIN)
