"""The face of a puppet: a portrait's identity latent, and a generator tuned to that one image.

Pivotal tuning of a single image (Roich et al. 2021) along the decoder's own path: weights, identity latent, and the
portrait's own 34 numbers, against the image. One image says nothing of how this face moves, so what is known of faces
is held: on the driver's frames the tuned generator has to change from frame to frame as the pack's does ("motion
locality"), and other people have to stay as they were. Noise constants, which stay in their place, draw only what is
around the face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.stylegan2 import Generator
from mien.packs.pack import Channel, Pack
from mien.progress import Progress
from mien.stages.attributes import add_channels, read_channels
from mien.stages.checkpoint import NO_CHECKPOINT
from mien.stages.identity import frontal
from mien.stages.invert import invert
from mien.stages.motion import change_error, coarse
from mien.stages.pose import pose_latents
from mien.stages.regions import dilate, regions
from mien.stages.trainer import Drawn, Material, Schedule, Trainer
from mien.stages.weights import weights_for

AROUND = 3  # pixels of 64 from the face, within which noise constants stay as the pack has them


@dataclass(frozen=True)
class PortraitOptions:
    """`steps`, the first two thirds at `resolution` where the pack's is larger; learning rates of weights, identity
    latent, angles (degrees) and channels (units of their scale); `motion`: weight of moving as the pack's generator
    does, most at mouth and eyes, between two of `motion_frames` frames of the driver's at 32x32, every `motion_every`
    steps; `locality`: of other people; `noise`: whether noise constants draw what is around the face. They stay in their
    place, as a background does and hair nearly; within the face they would hold still what has to move. `share`: of Muon;
    less than on a clip, whose many frames say what must stay as it was."""

    steps: int = 120
    resolution: int = 128
    generator_rate: float = 3e-3
    identity_rate: float = 4e-3
    angle_rate: float = 0.1
    channel_rate: float = 0.05
    perceptual: float = 0.3
    motion: float = 30.0
    motion_every: int = 3
    motion_frames: int = 12
    locality: float = 0.5
    noise: bool = True
    share: float = 0.2
    least_gain: float = 0.002
    seed: int = 0


@dataclass(frozen=True)
class Driver:
    """What the puppet will do: `angles [T, 2]` (degrees), and the values `[T, 32]` that the channels V take in
    StyleSpace."""

    angles: Tensor
    values: Tensor


@dataclass(frozen=True)
class Face:
    """Who is seen: `identity [L, D]` facing the camera, and the difference `tuning` of its generator to the pack's."""

    identity: Tensor
    tuning: bytes


def portrait_face(
    pack: Pack,
    image: NDArray[np.uint8],
    channels: tuple[Channel, ...],
    driver: Driver,
    progress: Progress,
    *,
    tune: bool,
    size: int | None = None,
    options: PortraitOptions = PortraitOptions(),
) -> Face:
    """The face in an image, uint8 RGB `[H, W, 3]`. `size`: most bytes of its tuned weights, None: all of them.

    Raises FaceError where there is none. Deterministic for a seed on one machine.
    """
    from mien.stages.align import align_image

    found = align_image(image, pack.resolution)
    angles = torch.tensor([[float(found.yaw[0]), float(found.pitch[0])]], device=pack.device)
    w_plus = invert(pack.encoder, found.crops, device=pack.device)
    identity = frontal(pack.flow, w_plus[0], angles[0].cpu().numpy())
    if not tune:
        return Face(identity, b"")
    material = Material.of(pack, found.crops, found.landmarks, regions(found.landmarks, found.size))
    with progress.stage("portrait", options.steps, "steps") as tick:
        return _tuned(material, channels, w_plus, identity, angles, driver, size, options, tick)


def _tuned(
    material: Material, channels: tuple[Channel, ...], w_plus: Tensor, identity: Tensor, angles: Tensor, driver: Driver,
    size: int | None, options: PortraitOptions, tick: Callable[[int], None],
) -> Face:  # fmt: skip
    original, flow = material.original, material.flow
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=identity.device)
    w = identity.clone().requires_grad_(True)
    turn = flow.clamp(angles).clone().requires_grad_(True)
    with torch.no_grad():
        at_rest = original.styles(pose_latents(flow, identity, turn))
        units = (read_channels(original.styles(w_plus), channels) - read_channels(at_rest, channels)) / scale
    units = units.clamp(-8, 8).requires_grad_(True)
    low = options.steps * 2 // 3 if options.resolution < original.resolution else 0
    schedule = Schedule(
        options.steps, 1, options.resolution, low, 5, options.perceptual, options.locality, options.least_gain,
        options.seed, share=options.share,
    )  # fmt: skip
    weights = weights_for(original, size, noise=options.noise)
    more = [([w], options.identity_rate), ([turn], options.angle_rate), ([units], options.channel_rate)]
    around = 1 - dilate(material.regions.face, AROUND)
    trainer = Trainer(weights, material, options.generator_rate, more, schedule, tick, NO_CHECKPOINT, around)
    random = np.random.RandomState(options.seed)
    spread = np.unique(np.linspace(0, len(driver.angles) - 1, options.motion_frames).astype(np.int64))
    with torch.no_grad():
        moving = _moved(original, material, channels, identity, driver, torch.from_numpy(spread))
        features = F.interpolate(material.regions.attention, moving.shape[-2:], mode="area")[0]
    turns = 0

    def step(generator: Generator, drawn: Drawn) -> tuple[list[Tensor], Tensor | None]:
        nonlocal turns
        turns += 1
        styles = add_channels(generator.styles(pose_latents(flow, w, turn)), channels, units * scale)
        if not options.motion or turns % options.motion_every or len(spread) < 2:
            return styles, None
        pair = random.choice(len(spread), 2, replace=False)
        made = _moved(generator, material, channels, w, driver, torch.from_numpy(spread[pair]))
        wanted = moving[torch.from_numpy(pair)]
        return styles, options.motion * change_error(made, wanted, features)

    trainer.run(step)
    _, blob = weights.finish()
    return Face(w.detach().half().float(), blob)


def _moved(
    generator: Generator, material: Material, channels: tuple[Channel, ...], identity: Tensor, driver: Driver,
    frames: Tensor,
) -> Tensor:  # fmt: skip
    """The identity doing what the driver does at some frames, `[N, 3, 32, 32]` at most: where things are, not how
    sharp they are."""
    styles = generator.styles(pose_latents(material.flow, identity, driver.angles[frames]))
    styles = add_channels(styles, channels, driver.values[frames] - read_channels(styles, channels))
    return coarse(generator, styles, material.through)
