"""Stages 4 and 5 where the input is bad, and with channels chosen for the clip: tiny random packs, seconds."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut
from torch import Tensor

from factories.faces import areas
from factories.packs import tiny_pack
from mien.api import encode_with_report
from mien.errors import InputError
from mien.format.stream import Stream
from mien.media.images import to_bytes
from mien.method.avatar import channel_difference, pose_latents
from mien.method.clip_channels import clip_channels
from mien.method.frame_quality import poor_frames, region_errors
from mien.method.losses import LossNetworks
from mien.method.stage1_align.align import already_aligned
from mien.method.stage4_pose import fit_pose
from mien.method.stage5_attributes import fit_attributes
from mien.method.stage6_render.render import render
from mien.nets.stylespace import Channel, add_channels
from mien.pipeline import encode_crops
from mien.runtime.progress import NoProgress
from mien.runtime.stage_cache import NullCache

FRAMES = 24
COVERED = slice(9, 13)


@pytest.fixture(scope="module")
def moving() -> tuple[Tensor, Tensor, Tensor]:
    """A head that keeps still while its channels swing: LH_t, alpha_t and the pictures of the tiny pack."""
    pack = tiny_pack()
    time = torch.linspace(0, 6, FRAMES)[:, None]
    scale = torch.tensor([c.scale for c in pack.channels])
    alpha = torch.sin(time + torch.arange(32)[None]) * scale
    posed = pose_latents(pack.flow, pack.people[0], torch.zeros(FRAMES, 2))
    styles = add_channels(pack.generator.styles(posed), pack.channels, alpha)
    return posed, alpha, pack.generator.synthesis_from_styles(styles)


def solved(posed: Tensor, frames: Tensor, start: Tensor) -> Tensor:
    pack = tiny_pack()
    look = LossNetworks(pack.perceptual, None, None)
    blink = torch.zeros(FRAMES, dtype=torch.bool)
    return fit_attributes(
        pack.generator, look, pack.channels, posed, frames, areas(FRAMES), start, blink, frames[:1]
    ).alpha


def test_covered_frames_leave_the_others_as_they_were(moving: tuple[Tensor, Tensor, Tensor]) -> None:
    posed, alpha, frames = moving
    hidden, start = frames.clone(), alpha * 0.8
    hidden[COVERED, :, 40:56, 20:44] = 0.0
    bad_start = start.clone()
    bad_start[COVERED] = 40.0  # an encoder that has lost the face
    clean, covered = solved(posed, frames, start), solved(posed, hidden, bad_start)
    pack = tiny_pack()
    scale = torch.tensor([c.scale for c in pack.channels])
    draw = lambda a: pack.generator.synthesis_from_styles(add_channels(pack.generator.styles(posed), pack.channels, a))
    error = lambda a: (draw(a) - frames).square().mean((1, 2, 3))
    outside = torch.ones(FRAMES, dtype=torch.bool)
    outside[COVERED] = False
    before, after = error(clean)[outside], error(covered)[outside]
    lost = float(10 * torch.log10(after.mean() / before.mean()))
    assert lost < 1.0, "3.7 dB where neighbours were pulled along"
    assert bool(torch.isfinite(covered).all()) and float((covered / scale).abs().max()) <= 8.0 + 0.01


def test_profile_turns_stay_within_what_the_flow_knows() -> None:
    pack = tiny_pack()
    target = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    measured = torch.tensor([[70.0, 0.0], [85.0, -50.0], [-90.0, 40.0]])
    pose = fit_pose(pack.generator, pack.flow, pack.perceptual, pack.people[0], target, measured, areas())
    assert bool(torch.isfinite(pose.angles).all())
    assert float(pose.angles.abs().max()) <= pack.flow.pose.limit
    assert bool((pose.loss <= pose.initial_loss + 1e-6).all())


def test_the_report_names_covered_frames() -> None:
    """Both ways in: a region of the crops that S_t does not explain, and a stage 5 that ended badly."""
    random = np.random.RandomState(0)
    made = torch.from_numpy(random.uniform(-0.5, 0.5, (FRAMES, 3, 64, 64)).astype(np.float32))
    crops = to_bytes(made + 0.1 * torch.from_numpy(random.normal(size=made.shape).astype(np.float32)))
    loss = torch.full((FRAMES,), 0.01) + 0.001 * torch.from_numpy(random.rand(FRAMES))
    assert poor_frames(loss, region_errors(crops, made, areas(FRAMES))) == []
    crops[COVERED, 40:56, 20:44] = 255
    loss[20] = 0.1
    assert poor_frames(loss, region_errors(crops, made, areas(FRAMES))) == [9, 10, 11, 12, 20]


def test_channels_that_moved_are_the_ones_chosen() -> None:
    pack = tiny_pack()
    moved = [Channel(6, 3, "mouth", 1.0), Channel(9, 7, "mouth", 1.0), Channel(11, 2, "mouth", 1.0)]
    # Latents whose StyleSpace differs from the posed ones in a few directions: solve for W+ rows that move them.
    posed = pose_latents(pack.flow, pack.people[0], torch.zeros(FRAMES, 2))
    w_plus = posed.clone()
    for i, channel in enumerate(moved):
        block = pack.generator.blocks[channel.layer]
        direction = torch.linalg.pinv(block.affine.weight * block.affine.scale)[:, channel.index]
        w_plus[:, pack.generator.layers[channel.layer].row] += (
            torch.sin(torch.arange(FRAMES) * (i + 1.0))[:, None] * direction
        )
    chosen = clip_channels(pack.generator, w_plus, posed, areas(FRAMES), pack.flow.pose.rows)
    places = [(c.layer, c.index) for c in chosen]
    assert set(places[: len(moved)]) == {(c.layer, c.index) for c in moved}
    assert len(set(places)) == 32
    layers = pack.generator.layers
    assert all(layers[c.layer].row >= pack.flow.pose.rows and not layers[c.layer].to_rgb for c in chosen)


@pytest.fixture(scope="module")
def own_channels() -> Stream:
    """A real face that moves a little, encoded with channels of its own."""
    face = astronaut()[0:230, 110:340]
    frames = [cv2.resize(np.roll(face, t, axis=1), (128, 128), interpolation=cv2.INTER_AREA) for t in range(4)]
    crops = already_aligned(iter(frames), 64)
    from mien.pipeline import EncodeReport

    return encode_crops(crops, Fraction(25), tiny_pack(), tune_clip=False, aligned=True, seed=0, progress=NoProgress(),
                        report=EncodeReport(), channels="clip", work=NullCache())  # fmt: skip


def test_a_stream_carries_its_own_channels(own_channels: Stream) -> None:
    pack = tiny_pack()
    table = np.asarray(own_channels.channels)
    own = {(c.layer, c.index) for c in pack.channels}
    assert len({tuple(x) for x in table.tolist()}) == 32 and any(tuple(x) not in own for x in table.tolist())
    again = Stream.from_bytes(own_channels.to_bytes())
    np.testing.assert_array_equal(again.channels, table)
    first, second = (np.stack(list(render(s, pack=pack))) for s in (own_channels, again))
    np.testing.assert_array_equal(first, second)


def test_on_a_puppet_channels_of_the_clips_own_keep_their_change(own_channels: Stream) -> None:
    pack = tiny_pack()
    difference = channel_difference(pack, own_channels, pack.people[1].numpy())
    own = {(c.layer, c.index) for c in pack.channels}
    in_v = np.array([tuple(x) in own for x in np.asarray(own_channels.channels).tolist()])
    assert not difference[~in_v].any()
    assert (np.abs(difference[in_v]) > 0).all()


def test_unknown_channels_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="'best': take pack or clip"):
        encode_with_report(tmp_path / "none.mp4", channels="best")
