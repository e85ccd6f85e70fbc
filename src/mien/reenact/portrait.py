"""The face of a puppet: a portrait's identity latent, and a generator tuned to that one image.

Pivotal tuning of a single image (Roich et al. 2021) along the decoder's own path: weights, identity latent, and the
portrait's own 34 numbers, against the image. One image says nothing of how this face moves. So beside it stands what it looks
like where the driver takes it: the portrait itself, carried along as the pack's generator moves (`mien.reenact.warp_portrait`). The
tuned generator has to change from frame to frame as the pack's does, too ("motion locality"), and other people have to stay as
they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import FaceError
from mien.face import mesh as lm
from mien.face.masks import dilate
from mien.media.images import to_bytes
from mien.method.avatar import pose_latents
from mien.method.stage2_invert import invert
from mien.method.stage3_identity import frontal
from mien.nets.generator import Generator
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylespace import Channel, add_channels, read_channels
from mien.packs.pack import Pack
from mien.personalize.generator_params import weights_for
from mien.personalize.motion_regularizer import change_error, coarse
from mien.personalize.noise_schedule import SLOW, noise_rates
from mien.personalize.options import MuonOptions, NoiseOptions
from mien.personalize.trainer import Drawn, Material, Schedule, Trainer
from mien.reenact.eye_transfer import EyeTransferOptions
from mien.reenact.warp_portrait import WarpedPortraits, warp_portrait
from mien.runtime.progress import Progress
from mien.runtime.resumable_loop import NO_CHECKPOINT

ANGLE = 5.0  # degrees that count as one scale of a channel, where the driver's frames are compared
AROUND = (
    3  # pixels of 64 from the face, within which noise constants stay as the pack has them where nothing is carried
)


@dataclass(frozen=True)
class PortraitOptions:
    """`steps` of `batch` pictures, the portrait and some of it carried along, the first two thirds at `resolution` where the
    pack's is larger; learning rates of weights, identity latent, angles (degrees) and channels (units of their scale);
    `frames`: how many of the driver's the portrait is carried to; `motion`: weight of moving as the pack's generator does, most
    at mouth and eyes, between two of them at 32x32, every `motion_every` steps; `locality`: of other people; `noise`: whether
    noise constants are tuned; `share`: of Muon."""

    steps: int = 200
    batch: int = 3
    resolution: int = 128
    generator_rate: float = 6e-3
    identity_rate: float = 4e-3
    angle_rate: float = 0.1
    channel_rate: float = 0.05
    perceptual: float = 0.3
    frames: int = 16
    motion: float = 10.0
    motion_every: int = 3
    locality: float = 0.5
    noise: bool = True
    share: float = MuonOptions().max_update
    least_gain: float = 0.002
    seed: int = 0

    @property
    def alone(self) -> PortraitOptions:
        """Gentler ones for a portrait that cannot be carried along: one picture says nothing of what must stay as it was."""
        return replace(
            self, batch=1, generator_rate=self.generator_rate / 2, motion=3 * self.motion, share=self.share / 3
        )


@dataclass(frozen=True)
class Driver:
    """What the puppet will do: `angles [T, 2]` (degrees), and the values `[T, 32]` that the channels V take in
    StyleSpace. `looks`: where the driver looks in some frames, `[N]` -> `[N, 2]` (`face.measures.gaze_direction`), if that is known."""

    angles: Tensor
    values: Tensor
    looks: Callable[[Tensor], NDArray[np.float64]] | None = None


Doing = Callable[[Tensor], Driver]  # what a puppet with an identity latent `[L, D]` will do


@dataclass(frozen=True)
class Face:
    """Who is seen: `identity [L, D]` facing the camera, and the difference `tuning` of its generator to the pack's."""

    identity: Tensor
    tuning: bytes


def portrait_face(
    pack: Pack,
    image: NDArray[np.uint8],
    channels: tuple[Channel, ...],
    doing: Doing,
    progress: Progress,
    *,
    tune: bool,
    size: int | None = None,
    options: PortraitOptions = PortraitOptions(),
) -> Face:
    """The face in an image, uint8 RGB `[H, W, 3]`. `size`: most bytes of its tuned weights, None: all of them.

    Raises FaceError where there is none. Deterministic for a seed on one machine.
    """
    from mien.method.stage1_align.align import align_image

    found = align_image(image, pack.resolution)
    angles = pack.flow.clamp(torch.tensor([[float(found.yaw[0]), float(found.pitch[0])]], device=pack.device))
    known = _Known(found.crops[:], found.landmarks, angles)
    return _face(pack, known, channels, doing, progress, tune, size, options)


def person_face(
    pack: Pack,
    pictures: NDArray[np.uint8],
    numbers: Driver,
    channels: tuple[Channel, ...],
    doing: Doing,
    progress: Progress,
    *,
    size: int | None = None,
    options: PortraitOptions = PortraitOptions(),
) -> Face:
    """The face of a person whom a generator draws that is tuned to them: `pictures` uint8 `[N, S, S, 3]` that it draws, of
    `numbers`. Where the driver goes it has never been; so the first of the pictures is a portrait, carried along, and the
    others are learned beside.

    Raises FaceError where the first one shows no face.
    """
    mesh = lm.FaceMesh()
    found = [mesh(np.ascontiguousarray(picture)) for picture in pictures]
    mesh.close()
    if not found[0]:
        raise FaceError("no face is found in what the person's own generator draws")
    seen = [i for i, meshes in enumerate(found) if meshes]
    landmarks = np.stack([found[i][0][:, :2] - 0.5 for i in seen]).astype(np.float32)
    known = _Known(pictures[seen], landmarks, numbers.angles[seen], numbers.values[seen])
    return _face(pack, known, channels, doing, progress, True, size, options)


@dataclass(frozen=True)
class _Known:
    """What a face is learned from: `crops` uint8 `[N, S, S, 3]`, the portrait first, their `landmarks [N, 478, 2]` and `angles
    [N, 2]`, and the `values [N, 32]` of their channels, None where there is only the portrait."""

    crops: NDArray[np.uint8]
    landmarks: NDArray[np.floating]
    angles: Tensor
    values: Tensor | None = None


def _face(
    pack: Pack, known: _Known, channels: tuple[Channel, ...], doing: Doing, progress: Progress, tune: bool,
    size: int | None, options: PortraitOptions,
) -> Face:  # fmt: skip
    crop, landmarks, angles = known.crops[:1], known.landmarks[:1], known.angles[:1]
    w_plus = invert(pack.encoder, crop, device=pack.device)
    identity = frontal(pack.flow, w_plus[0], angles[0].cpu().numpy())
    if not tune:
        return Face(identity, b"")
    with torch.no_grad():
        own = Driver(angles, read_channels(pack.generator.styles(w_plus), channels))
    driver = doing(identity)
    chosen = farthest(channels, driver, options.frames).sort().values
    looks = driver.looks(chosen) if driver.looks is not None else None
    driver = Driver(driver.angles[chosen], driver.values[chosen])
    more = _carried(pack, channels, identity, own, driver, crop[0], landmarks[0], looks)
    if known.values is not None:
        more = more.extended(known.crops[1:], known.landmarks[1:], len(chosen))
        angles, values = known.angles[1:], known.values[1:]
        driver = Driver(torch.cat([driver.angles, angles]), torch.cat([driver.values, values]))
    crops, landmarks = np.concatenate([crop, more.images]), np.concatenate([landmarks, more.landmarks])
    # What the parser reads of pictures that were made by hand is not asked for.
    material = Material.of(pack, crops, landmarks)
    if not len(more.frames):
        options = options.alone
    with progress.stage("portrait", options.steps, "steps") as tick:
        return _tuned(material, channels, identity, own, driver, more, size, options, tick)


def farthest(channels: tuple[Channel, ...], driver: Driver, count: int) -> Tensor:
    """At most `count` frames, the most usual one first, then each the farthest from those before it (Gonzalez 1985)."""
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=driver.values.device)
    numbers = torch.cat([driver.angles / ANGLE, driver.values / scale], 1)
    chosen = [int((numbers - numbers.median(0).values).square().sum(1).argmin())]
    apart = (numbers - numbers[chosen[0]]).square().sum(1)
    while len(chosen) < count and float(apart.max()) > 0:
        chosen.append(int(apart.argmax()))
        apart = torch.minimum(apart, (numbers - numbers[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


@torch.no_grad()
def _carried(
    pack: Pack, channels: tuple[Channel, ...], identity: Tensor, own: Driver, driver: Driver, crop: NDArray[np.uint8],
    landmarks: NDArray[np.floating], looks: NDArray[np.float64] | None,
) -> WarpedPortraits:  # fmt: skip
    """The portrait `crop [S, S, 3]` where the driver's frames take it."""
    angles, values = torch.cat([own.angles, driver.angles]), torch.cat([own.values, driver.values])
    renders = []
    for i in range(len(angles)):
        styles = _driven(pack.generator, pack.flow, channels, identity, Driver(angles, values), torch.tensor([i]))
        renders.append(to_bytes(pack.generator.synthesis_from_styles(styles))[0])
    return warp_portrait(crop, landmarks, renders[0], np.stack(renders[1:]), looks, EyeTransferOptions())


def _tuned(
    material: Material, channels: tuple[Channel, ...], identity: Tensor, own: Driver, driver: Driver, more: WarpedPortraits,
    size: int | None, options: PortraitOptions, tick: Callable[[int], None],
) -> Face:  # fmt: skip
    original, flow = material.original, material.flow
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=identity.device)
    w = identity.clone().requires_grad_(True)
    turn = own.angles.clone().requires_grad_(True)
    with torch.no_grad():
        at_rest = original.styles(pose_latents(flow, identity, turn))
        units = (own.values - read_channels(at_rest, channels)) / scale
    units = units.clamp(-8, 8).requires_grad_(True)
    low = options.steps * 2 // 3 if options.resolution < original.resolution else 0
    schedule = Schedule(
        options.steps, options.batch, options.resolution, low, 5, options.perceptual, options.locality,
        options.least_gain, options.seed, muon=MuonOptions(max_update=options.share),
    )  # fmt: skip
    weights = weights_for(original, size, noise=NoiseOptions() if options.noise else None)
    numbers = [([w], options.identity_rate), ([turn], options.angle_rate), ([units], options.channel_rate)]
    trainer = Trainer(
        weights, material, options.generator_rate, numbers, schedule, tick, NO_CHECKPOINT, _noise_rates(material),
        _probability(len(more.frames), options.batch),
    )  # fmt: skip
    random = np.random.RandomState(options.seed)
    count = len(driver.angles)
    with torch.no_grad():
        moving = _moved(original, material, channels, identity, driver, torch.arange(count))
        features = F.interpolate(material.regions.part(slice(1)).attention, moving.shape[-2:], mode="area")[0]
    turns = 0

    def step(generator: Generator, drawn: Drawn) -> tuple[list[Tensor], Tensor | None]:
        nonlocal turns
        turns += 1
        # Frame 0 is the portrait, the others are the driver's. Its own numbers are learned, theirs are given.
        which = torch.from_numpy(np.concatenate([[0], 1 + more.frames]))[drawn.index]
        angles = torch.cat([turn, driver.angles])[which]
        styles = generator.styles(pose_latents(flow, w, angles))
        own_values = read_channels(generator.styles(pose_latents(flow, w, turn)), channels) + units * scale
        values = torch.cat([own_values, driver.values])[which]
        styles = add_channels(styles, channels, values - read_channels(styles, channels))
        if not options.motion or turns % options.motion_every or count < 2:
            return styles, None
        pair = torch.from_numpy(random.choice(count, 2, replace=False))
        made = _moved(generator, material, channels, w, driver, pair)
        return styles, options.motion * change_error(made, moving[pair], features)

    trainer.run(step)
    _, blob = weights.finish()
    return Face(w.detach().half().float(), blob)


def _noise_rates(material: Material) -> Tensor:
    """How fast noise constants learn, `[1, 1, 64, 64]`: as on a clip, where the portrait was carried along, but slowly at nose
    and lips too: between the driver's frames that it was carried to they left dots there. Of one picture alone they draw
    what is around the face: within it they would hold still what has to move."""
    if len(material.crops) == 1:
        return 1 - dilate(material.regions.part(slice(1)).face, AROUND)
    masks = material.regions.part(slice(None))
    moving = dilate(torch.maximum(masks.nose, masks.lips).amax(0, keepdim=True), 1)
    return noise_rates(material.regions, material.steady) * (1 - (1 - SLOW) * moving)


def _probability(carried: int, batch: int) -> NDArray[np.float64]:
    """Of drawing the portrait, and each of so many pictures that it was carried to: it is in every batch, once."""
    share = 1 / batch if carried else 1.0
    return np.concatenate([[share], np.full(carried, (1 - share) / max(carried, 1))])


def _driven(
    generator: Generator,
    flow: HeadPoseFlow,
    channels: tuple[Channel, ...],
    identity: Tensor,
    driver: Driver,
    frames: Tensor,
) -> list[Tensor]:
    """Styles of the identity doing what the driver does at some frames."""
    styles = generator.styles(pose_latents(flow, identity, driver.angles[frames]))
    return add_channels(styles, channels, driver.values[frames] - read_channels(styles, channels))


def _moved(
    generator: Generator, material: Material, channels: tuple[Channel, ...], identity: Tensor, driver: Driver,
    frames: Tensor,
) -> Tensor:  # fmt: skip
    """The identity doing what the driver does at some frames, `[N, 3, 32, 32]` at most: where things are, not how
    sharp they are."""
    return coarse(generator, _driven(generator, material.flow, channels, identity, driver, frames))
