"""The two methods on a tiny pack: which loss decides what is sent, and what stays out of it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from factories.fake_device import crops
from factories.packs import tiny_pack
from mien.api import to_stream
from mien.errors import InputError, PackError
from mien.format import lowrank
from mien.method.solvers.adam_reference import AdamAttributeOptions, AdamPoseOptions
from mien.method.stage3_identity import frontal
from mien.method.types import FaceTrack
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.personalize.options import MuonOptions, TrainingOptions, default_person_size
from mien.pipeline import Encoding, encode_track
from mien.report import EncodeReport, summarise
from mien.runtime.monitor import Monitor

FRAMES, BLINK = 6, 3


@pytest.fixture(scope="module")
def faces() -> FaceTrack:
    """Frames of noise with a face's mesh, one of which has its eyes shut."""
    found = crops(FRAMES)
    found.landmarks[BLINK, [159, 386]] = found.landmarks[BLINK, [145, 374]]
    assert np.flatnonzero(found.blink).tolist() == [BLINK]
    return found


def encoded(faces: FaceTrack, options: EncodeOptions) -> tuple[Pack, Encoding, EncodeReport]:
    pack, monitor = tiny_pack(noise=True), Monitor()
    encoding = encode_track(faces, pack, options, monitor)
    stream = to_stream(encoding, faces, Fraction(25), pack, options)
    return pack, encoding, summarise(encoding, faces, stream, pack, options, monitor)


def quickly(options: TrainingOptions | None) -> TrainingOptions | None:
    return None if options is None else replace(options, steps=8, passes=0.0)


@pytest.fixture(scope="module")
def paper(faces: FaceTrack) -> tuple[Pack, Encoding, EncodeReport]:
    options = EncodeOptions.paper()
    return encoded(faces, replace(options, tuning=quickly(options.tuning), pose=AdamPoseOptions(epochs=3),
                                  attributes=AdamAttributeOptions(epochs=25, rate=0.05, probes=1)))  # fmt: skip


@pytest.fixture(scope="module")
def mien(faces: FaceTrack) -> tuple[Pack, Encoding, EncodeReport]:
    options = EncodeOptions.mien()
    return encoded(faces, replace(options, tuning=quickly(options.tuning), refinement=quickly(options.refinement)))


def test_the_papers_numbers_are_those_of_its_stages(
    faces: FaceTrack, paper: tuple[Pack, Encoding, EncodeReport]
) -> None:
    pack, found, report = paper
    assert torch.equal(found.motion.angles, found.pose.angles)
    assert torch.equal(found.motion.alpha, found.attributes.alpha)
    assert torch.equal(found.inversion.w_plus[:], found.first_inversion.w_plus[:]), "pivots are fixed"
    own, tuned = pack.generator.state_dict(), found.avatar.generator.state_dict()
    changed = {name for name in own if not torch.equal(own[name], tuned[name])}
    assert changed and not any(".affine." in name or name.endswith("noise_const") for name in changed)
    measured = faces.angles(pack.flow)
    one_of_the_latents = frontal(pack.flow, found.inversion.w_plus[found.identity.frame],
                                 measured[found.identity.frame].numpy())  # fmt: skip
    assert torch.equal(found.avatar.identity, one_of_the_latents)
    assert report.method == "paper" and report.to_json()["method"] == "paper"
    assert "Eq. 2 against S_t" in report.minimises["angles"] and "Algorithm 1" in report.minimises["alpha"]
    assert report.seconds["refine"] == report.seconds["refit"] == 0.0 < report.seconds["tune"]


def test_the_papers_gaze_stays_through_a_blink(paper: tuple[Pack, Encoding, EncodeReport]) -> None:
    _, found, _ = paper
    avatar = found.avatar
    styles = avatar.styles(found.motion.angles, found.motion.alpha)
    values = avatar.read(styles)[:, avatar.gaze]
    torch.testing.assert_close(values[BLINK], values[BLINK - 1], atol=2e-3, rtol=2e-3)
    assert float((values[BLINK + 1] - values[BLINK]).abs().max()) > 1e-3


def test_ours_refines_and_leaves_the_gaze_of_blinks_alone(mien: tuple[Pack, Encoding, EncodeReport]) -> None:
    _, found, report = mien
    gaze = found.avatar.gaze
    torch.testing.assert_close(
        found.motion.alpha[BLINK, gaze], found.attributes.alpha[BLINK, gaze], atol=2e-3, rtol=2e-3
    )
    moved = (found.motion.alpha - found.attributes.alpha).abs()
    assert float(moved[BLINK, ~gaze].max()) > 1e-3 and float(moved[BLINK + 1, gaze].max()) > 1e-3
    assert not torch.equal(found.avatar.identity, found.identity.w_plus)
    assert report.method == "mien" and "frames I_t" in report.minimises["alpha"]
    assert min(report.seconds[name] for name in ("tune", "refine", "refit")) > 0


def test_every_layer_beyond_the_paper_can_be_left_out(faces: FaceTrack) -> None:
    options = EncodeOptions.mien()
    assert options.tuning is not None
    bare = replace(
        options.tuning, steps=4, passes=0.0, noise=None, muon=None,
        even_sampling=False, encoder_rate=None,
    )  # fmt: skip
    _, found, _ = encoded(faces, replace(options, tuning=bare, refinement=None, refit=None))
    assert torch.equal(found.motion.alpha, found.attributes.alpha)


def test_options_are_one_value_with_one_key() -> None:
    assert EncodeOptions.of() == EncodeOptions.mien() and EncodeOptions.of("paper") == EncodeOptions.paper()
    assert EncodeOptions.of(tune=False) == EncodeOptions.untuned()
    some = EncodeOptions.mien()
    assert some.tuning is not None
    slower = replace(some, tuning=replace(some.tuning, muon=MuonOptions(momentum=0.8)))
    keys = {o.key() for o in (some, slower, EncodeOptions.paper(), replace(some, seed=1), EncodeOptions.untuned())}
    assert len(keys) == 5 and some.key() == EncodeOptions.of().key()


def test_nonsense_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="no method 'best': take mien or paper"):
        EncodeOptions.of("best")
    with pytest.raises(InputError, match="256, 512 or 1024, not 100"):
        EncodeOptions.of(size=100)
    with pytest.raises(InputError, match="no inversion 'twice'"):
        EncodeOptions.of(inversion="twice")
    with pytest.raises(PackError, match="draws pictures of 64 pixels, not of 512"):
        tiny_pack().at(512)
    with pytest.raises(InputError, match="has no ReStyle network"):
        encode_track(crops(2), tiny_pack(), EncodeOptions.of(inversion="restyle", tune=False), Monitor())


@pytest.mark.parametrize(("resolution", "size"), [(64, 188_000), (256, 188_000), (512, 400_000), (1024, 400_000)])
def test_the_default_person_is_larger_where_pictures_are(resolution: int, size: int) -> None:
    assert EncodeOptions.of().person_size == "auto" and default_person_size(resolution) == size
    assert EncodeOptions.of(method="paper").person_size is None
    assert EncodeOptions.of(person_size="full").person_size is None


def test_the_default_person_is_compact(mien: tuple[Pack, Encoding, EncodeReport]) -> None:
    _, encoding, _ = mien
    assert encoding.weights[:4] == lowrank.MAGIC
