"""Puppets: what each preset gives, what switches leave out, and portraits of the embedded pack that are tuned."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from factories import EXAMPLES
from factories.packs import tiny_mobile_pack
from mien.errors import InputError
from mien.face.measures import gaze_direction
from mien.face.mesh import FaceMesh
from mien.format.person import Person
from mien.format.stream import Stream
from mien.format.weights_codec import apply_delta
from mien.media.images import to_bytes
from mien.media.still_images import read_image
from mien.method.pivot import PivotOptions
from mien.method.stage2_invert import invert
from mien.method.stage3_identity import frontal
from mien.method.stage6_render.render import render
from mien.method.types import Motion
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from mien.personalize.generator_params import Weights
from mien.personalize.pti import TunedWeights
from mien.reenact import pivotal_image
from mien.reenact.driving_motion import DrivingMotion, gaze_of_frames
from mien.reenact.face_source import FaceExamples, invert_portrait, locate_face, render_examples
from mien.reenact.options import PuppetOptions
from mien.reenact.pivotal_image import PivotalImageTuning
from mien.reenact.portrait import PortraitTuning, portrait_views
from mien.reenact.puppeteer import puppeteer
from mien.reenact.retarget import RetargetOptions, retarget
from mien.reenact.warp_portrait import WarpedPortraits

PORTRAIT = EXAMPLES / "portrait.png"


def talking(pack: Pack, person: int, tuning: bytes = b"", frames: int = 6) -> Stream:
    """A stream of one of the pack's people."""
    rows = np.random.RandomState(person).randn(frames, 35) * ([4] * 3 + [0.4] * 32) + ([2] * 3 + [0.2] * 32)
    identity = pack.people[person].numpy().astype(np.float16)
    table = channel_table(pack.channels)
    return Stream(pack.fingerprint, pack.name, pack.resolution, Fraction(25), table, identity, rows.astype(np.float16),
                  tuning=tuning)  # fmt: skip


def quick(steps: int, **retargeting: object) -> PuppetOptions:
    """Few steps of tuning."""
    return PuppetOptions(RetargetOptions(**retargeting), tuning=PortraitTuning(steps=steps))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def driver() -> Stream:
    """Three frames of the example, without its sound."""
    stream = Stream.load(EXAMPLES / "clip.mien")
    return replace(stream, frames=stream.frames[::20], audio=b"", placement=stream.placement[::20])


def views_of(driver: Stream, examples: FaceExamples, pack: Pack) -> WarpedPortraits:
    """The portrait at each of the driver's frames."""
    avatar, own, _ = invert_portrait(examples, pack.channels, pack, None)
    motion = DrivingMotion.of(retarget(driver, avatar.identity, pack, RetargetOptions()), avatar)
    gaze = gaze_of_frames(driver, pack, torch.arange(len(driver)))
    return portrait_views(examples, avatar, own, motion, gaze, PuppetOptions().eye_transfer)


def psnr_to_views(puppet: Stream, views: WarpedPortraits, pack: Pack) -> float:
    """How near a puppet's frames are to the views, dB."""
    frames = np.stack(list(render(puppet, pack=pack)))
    return float(-10 * np.log10(np.square(frames / 255 - views.images / 255).mean()))


def test_the_papers_form_is_the_drivers_numbers_with_the_others_identity_and_weights(pack: Pack) -> None:
    driver, face = talking(pack, 0), talking(pack, 1, tuning=b"MTL1" + bytes(8))
    puppet = puppeteer(driver, face, method="paper", pack=pack)
    assert puppet.frames.tobytes() == driver.frames.tobytes()
    assert puppet.identity.tobytes() == face.identity.tobytes() and puppet.tuning == face.tuning
    assert puppet.fps == driver.fps and np.array_equal(puppet.channels, driver.channels)
    person = Person.of(face, "ann")
    puppet = puppeteer(driver, person, method="paper", pack=pack)
    assert puppet.frames.tobytes() == driver.frames.tobytes()
    assert puppet.person == person.fingerprint and puppet.identity.tobytes() == person.identity.tobytes()


def test_the_papers_form_tunes_to_an_image_around_its_fixed_inversion(pack: Pack) -> None:
    driver, image = talking(pack, 0), astronaut()[:400, :400]
    paper = PuppetOptions.paper()
    assert isinstance(paper.tuning, PivotalImageTuning)
    quickly = replace(paper, tuning=replace(paper.tuning, training=replace(paper.tuning.training, steps=60)))
    puppet = puppeteer(driver, image, pack=pack, options=quickly)
    untuned = puppeteer(driver, image, pack=pack, options=replace(paper, tuning=None))
    for found in (puppet, untuned):
        assert found.frames.tobytes() == driver.frames.tobytes(), "the 35 numbers are the driver's, bit for bit"
    assert puppet.tuning and not untuned.tuning
    assert puppet.identity.tobytes() == untuned.identity.tobytes() != driver.identity.tobytes()
    face = locate_face(image, pack)
    pivot = invert(pack.encoder, face.crops[:1])
    drawn = [to_bytes(g.synthesis(pivot)) for g in (apply_delta(pack.generator, puppet.tuning), pack.generator)]
    tuned, plain = (np.square(x.astype(float) - face.crops[:1]).mean() for x in drawn)
    assert tuned < 0.85 * plain, "at its inversion the tuned generator draws the image"
    assert puppet.to_bytes() == puppeteer(driver, image, pack=pack, options=quickly).to_bytes()


def test_an_optimised_inversion_is_what_the_generator_is_tuned_around(monkeypatch: pytest.MonkeyPatch) -> None:
    pack, image = tiny_mobile_pack(), astronaut()[:400, :400]
    driver = talking(pack, 0)
    pivots: list[torch.Tensor] = []

    def noting(
        weights: Weights, encoder: object, data: object, pivot: torch.Tensor, *rest: object, **more: object
    ) -> TunedWeights:
        pivots.append(pivot)
        return TunedWeights(np.frombuffer(weights.export()[1], np.uint8), torch.zeros(0))

    monkeypatch.setattr(pivotal_image, "pivotal_tuning", noting)
    options = replace(PuppetOptions.paper(), pivot=PivotOptions(steps=3))
    puppet = puppeteer(driver, image, pack=pack, options=options)
    angles = locate_face(image, pack).angles[0].numpy()
    assert np.array_equal(puppet.identity, frontal(pack.flow, pivots[0][0], angles).numpy().astype(np.float16))


def test_presets_have_names_and_none_switches_parts_off() -> None:
    paper, mien = PuppetOptions.of("paper"), PuppetOptions.of("mien")
    assert mien == PuppetOptions.mien() == PuppetOptions()
    assert (paper.retargeting, paper.views, paper.eye_transfer, paper.tuning) == (
        None,
        None,
        None,
        PivotalImageTuning(),
    )
    assert all(part is not None for part in (mien.retargeting, mien.views, mien.eye_transfer, mien.tuning))
    with pytest.raises(InputError, match="paper"):
        PuppetOptions.of("papers")


def test_motion_that_is_retargeted_is_the_only_difference_without_tuning(pack: Pack) -> None:
    driver, face = talking(pack, 0), talking(pack, 1)
    as_they_are = puppeteer(driver, face, pack=pack, options=replace(PuppetOptions(), retargeting=None, tuning=None))
    assert as_they_are.to_bytes() == puppeteer(driver, face, method="paper", pack=pack).to_bytes()
    retargeted = puppeteer(driver, face, pack=pack)  # of a person without weights there is nothing to learn
    wanted = retarget(driver, pack.people[1].half().float(), pack, RetargetOptions()).rows()
    assert retargeted.frames.tobytes() == wanted.tobytes() != driver.frames.tobytes()
    assert retargeted.identity.tobytes() == as_they_are.identity.tobytes()


@pytest.mark.slow
def test_views_and_the_portraits_own_eyes_can_be_left_out(driver: Stream, mini: Pack) -> None:
    options = quick(1)
    variants = (options, replace(options, eye_transfer=None), replace(options, views=None))
    weights = [puppeteer(driver, PORTRAIT, pack=mini, options=variant).tuning for variant in variants]
    assert len(set(weights)) == 3
    without_views = replace(options, views=None, eye_transfer=None)
    assert puppeteer(driver, PORTRAIT, pack=mini, options=without_views).tuning == weights[2]


def test_a_driver_whose_person_is_not_here_has_no_gaze(mini: Pack) -> None:
    driver = replace(Stream.load(EXAMPLES / "clip.mien"), tuning=b"", person="0" * 64, person_name="nobody")
    assert np.isnan(gaze_of_frames(driver, mini, torch.arange(2))).all()


def test_a_drivers_gaze_is_that_of_the_driver_as_rendered(driver: Stream, mini: Pack) -> None:
    frames = list(render(driver, pack=mini))
    mesh = FaceMesh()
    seen = np.stack([gaze_direction(mesh(frame)[0][:, :2], 256) for frame in frames])
    np.testing.assert_allclose(gaze_of_frames(driver, mini, torch.arange(3)), seen, atol=0.02)


@pytest.mark.slow
def test_a_tuned_portrait_is_drawn_as_it_was_warped(driver: Stream, mini: Pack) -> None:
    views = views_of(driver, locate_face(read_image(PORTRAIT), mini), mini)
    assert views.frames.tolist() == [0, 1, 2]
    options = quick(18)
    tuned, plain = (puppeteer(driver, PORTRAIT, pack=mini, options=o) for o in (options, replace(options, tuning=None)))
    assert psnr_to_views(tuned, views, mini) > psnr_to_views(plain, views, mini) + 4


@pytest.mark.slow
def test_a_tuned_person_is_warped_to_where_another_drives_them(mini: Pack, tmp_path: Path) -> None:
    rows = np.zeros((2, 35), np.float16)
    rows[:, 1] = -16, 16
    driver = replace(talking(mini, 1, frames=2), frames=rows)
    person = Stream.load(EXAMPLES / "clip.mien")
    person = replace(person, frames=person.frames[::12], audio=b"", placement=person.placement[::12])
    views = views_of(driver, render_examples(person, mini), mini)
    options = quick(24)
    learned, as_they_are = (
        puppeteer(driver, person, pack=mini, options=o) for o in (options, replace(options, tuning=None))
    )
    assert psnr_to_views(learned, views, mini) > psnr_to_views(as_they_are, views, mini) + 2
    assert np.array_equal(as_they_are.identity, person.identity)

    ann = Person.of(person, "ann")
    assert len(render_examples(ann, mini).crops) == 5
    # Without frames what is warped is how they look straight ahead.
    ann = replace(ann, frames=ann.frames[:0])
    assert len(render_examples(ann, mini).crops) == 1
    file = tmp_path / "ann.person"
    ann.save(file)
    learned, named = (puppeteer(driver, file, pack=mini, options=o) for o in (quick(3), replace(options, tuning=None)))
    assert learned.tuning and not learned.person
    assert not named.tuning and named.person == ann.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("relative", [False, True])
def test_views_are_made_for_what_the_puppet_does(driver: Stream, mini: Pack, relative: bool) -> None:
    options = quick(1, relative=relative, strength=0.8)
    puppet = puppeteer(driver, PORTRAIT, pack=mini, options=options)
    avatar, _, _ = invert_portrait(locate_face(read_image(PORTRAIT), mini), mini.channels, mini, None)
    wanted = DrivingMotion.of(retarget(driver, avatar.identity, mini, options.retargeting), avatar)
    learned = avatar.with_identity(torch.from_numpy(puppet.identity.astype(np.float32)))
    does = DrivingMotion.of(Motion.from_rows(puppet.frames), learned)
    assert (wanted.angles - does.angles).abs().max() < 0.05
    assert ((wanted.values - does.values) / avatar.scale).abs().max() < 0.2
    assert bool(does.angles.median(0).values.abs().max() < 0.5) is relative
