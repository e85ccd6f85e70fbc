"""Learn a face from one portrait: pivotal tuning of a single image (Roich et al. 2021), made fit to be driven.

Generator, identity latent and the portrait's own 34 numbers are trained along the decoder's path (Eq. 13) against the
image. One image says nothing of how its face moves, so beside it stand warped views: what the portrait looks like where
the driver takes it (`mien.reenact.warp_portrait`). The paper tunes to a clip and has no counterpart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.face.masks import dilate
from mien.media.images import to_bytes
from mien.method.avatar import Avatar
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.personalize.generator_params import weights_for
from mien.personalize.noise_schedule import SLOW, noise_rates
from mien.personalize.options import MuonOptions, NoiseOptions
from mien.personalize.sampling import Batch
from mien.personalize.schedule import Schedule
from mien.personalize.trainer import Trainer
from mien.personalize.training_data import TrainingData
from mien.reenact.driving_motion import DrivingMotion
from mien.reenact.eye_transfer import EyeTransferOptions
from mien.reenact.face_source import FaceExamples, LearnedFace
from mien.reenact.warp_portrait import WarpedPortraits, warp_portrait
from mien.runtime.monitor import StageMonitor

NOISE_MARGIN_MASK_PX = 3  # around the face, within which noise maps stay the pack's where there are no views
MAX_UNITS = 8.0  # of a channel, that the portrait's own values start from at most
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class PortraitTuning:
    """How a generator is tuned to a portrait and its warped views.

    `steps` of `batch` images, the portrait in each of them once; the first two thirds at `resolution` pixels where the
    pack's is larger. `frames`: at most so many of the driver's are views made for. Learning rates of weights, identity
    latent, angles (degrees) and channels (units of their scale). `perceptual`, `imagenet`: weights beside the pixel
    loss. `noise`: train noise maps too. `max_update`: how far a convolution moves at a step, in learning rates (Muon).
    `person_size`: most bytes of the tuned weights, None for all of them.
    """

    steps: int = 80
    batch: int = 3
    resolution: int = 128
    frames: int = 16
    generator_rate: float = 6e-3
    identity_rate: float = 4e-3
    angle_rate: float = 0.1
    channel_rate: float = 0.05
    perceptual: float = 0.3
    imagenet: float = 0.2
    noise: bool = True
    max_update: float = MuonOptions().max_update
    person_size: int | None = None
    seed: int = 0

    def single_image(self) -> PortraitTuning:
        """Gentler ones for a portrait without views, which does not say what must stay as it was."""
        return replace(
            self,
            batch=1,
            generator_rate=self.generator_rate / 2,
            max_update=self.max_update / 3,
        )


@torch.no_grad()
def portrait_views(
    portrait: FaceExamples,
    avatar: Avatar,
    own: DrivingMotion,
    driving: DrivingMotion,
    gaze: NDArray[np.float64] | None,
    eyes: EyeTransferOptions | None,
) -> WarpedPortraits:
    """The portrait under the motion of `driving`, N frames; `own`: the portrait's, one frame; `gaze [N, 2]`: the
    driver's."""
    both = own.followed_by(driving)
    # One after the other: sums of a batch are rounded otherwise than those of one image.
    styles = [avatar.styles_at(both.angles[i : i + 1], both.values[i : i + 1]) for i in range(len(both))]
    renders = np.concatenate([to_bytes(avatar.generator.synthesis_from_styles(s)) for s in styles])
    return warp_portrait(portrait.crops[0], portrait.landmarks[0], renders[0], renders[1:], gaze, eyes)


def personalize_portrait(
    portrait: FaceExamples,
    avatar: Avatar,
    own: DrivingMotion,
    driving: DrivingMotion,
    views: WarpedPortraits,
    pack: Pack,
    options: PortraitTuning,
    tick: Callable[[int], None] = lambda n: None,
) -> LearnedFace:
    """Tune the avatar's generator and identity latent to a portrait, its views, and what else is known of the person.

    Args:
        portrait: the portrait, and further images with known channel values.
        avatar: the portrait's inversion, facing the camera, on the pack's generator.
        own: what the portrait itself does, one frame.
        driving: the driver's frames that views were made for, N frames.
        views: at most N.
        tick: called with 1 after each step.

    Deterministic for a seed on one machine.
    """
    if portrait.values is not None:
        views = views.extended(portrait.crops[1:], portrait.landmarks[1:], len(driving))
        driving = driving.followed_by(DrivingMotion(portrait.angles[1:], portrait.values[1:]))
    if not len(views):
        options = options.single_image()
    crops = np.concatenate([portrait.crops[:1], views.images])
    landmarks = np.concatenate([portrait.landmarks[:1], views.landmarks])
    data = TrainingData.of(pack, crops, landmarks)
    objective = PortraitObjective(avatar, own, driving, views.frames, options)
    weights = weights_for(data.original, options.person_size, noise=NoiseOptions() if options.noise else None)
    half_size = options.steps * 2 // 3 if options.resolution < data.original.resolution else 0
    schedule = Schedule(
        steps=options.steps,
        batch=options.batch,
        resolution=options.resolution,
        low_steps=half_size,
        warm=WARM_UP_STEPS,
        seed=options.seed,
        perceptual=options.perceptual,
        imagenet=options.imagenet,
        muon=MuonOptions(max_update=options.max_update),
    )
    trainer = Trainer(
        weights, data, options.generator_rate, objective.parameters(), schedule,
        partial(sampling_probability, len(views)), StageMonitor(tick), noise_learning_rates(data),
    )  # fmt: skip
    trainer.run(objective.styles)
    _, tuning = weights.export()
    return LearnedFace(objective.identity.detach().half().float(), tuning)


class PortraitObjective:
    """Styles of the images of a training step.

    Image 0 is the portrait, whose own angles and channel values are trained; the others have those of the driver.
    """

    def __init__(
        self,
        avatar: Avatar,
        own: DrivingMotion,
        driving: DrivingMotion,
        view_frames: NDArray[np.int64],
        options: PortraitTuning,
    ) -> None:
        """`view_frames`: the frame of `driving` that each view shows."""
        self._options, self._driving = options, driving
        self._frame_of_image = torch.from_numpy(np.concatenate([[0], 1 + view_frames]))
        self._avatar = avatar
        self.identity = avatar.identity.clone().requires_grad_(True)
        self._angles = own.angles.clone().requires_grad_(True)
        with torch.no_grad():
            units = (own.values - avatar.read(avatar.generator.styles(avatar.latents(own.angles)))) / avatar.scale
        self._units = units.clamp(-MAX_UNITS, MAX_UNITS).requires_grad_(True)

    def parameters(self) -> list[tuple[list[Tensor], float]]:
        """What is trained beside the generator, with its learning rates."""
        options = self._options
        return [
            ([self.identity], options.identity_rate),
            ([self._angles], options.angle_rate),
            ([self._units], options.channel_rate),
        ]

    def styles(self, generator: Generator, batch: Batch) -> tuple[list[Tensor], None]:
        """Styles of the images of a batch."""
        avatar = self._avatar.with_generator(generator).with_identity(self.identity)
        frames = self._frame_of_image[batch.index]
        angles = torch.cat([self._angles, self._driving.angles])[frames]
        styles = generator.styles(avatar.latents(angles))
        own_values = avatar.read(generator.styles(avatar.latents(self._angles))) + self._units * avatar.scale
        values = torch.cat([own_values, self._driving.values])[frames]
        return avatar.moved(styles, values - avatar.read(styles)), None


def noise_learning_rates(data: TrainingData) -> Tensor:
    """Learning rate of each pixel of the noise maps, as a share of their rate, `[1, 1, 64, 64]`.

    With views: as for a clip, and slow at nose and lips too, where views disagree in detail. Of a single image noise
    maps would draw the face itself and hold it still, so they are trained around it alone.
    """
    if len(data.crops) == 1:
        return 1 - dilate(data.regions.part(slice(1)).face, NOISE_MARGIN_MASK_PX)
    masks = data.regions.part(slice(None))
    moving = dilate(torch.maximum(masks.nose, masks.lips).amax(0, keepdim=True), 1)
    return noise_rates(data.regions, data.steady) * (1 - (1 - SLOW) * moving)


def sampling_probability(views: int, batch: int) -> NDArray[np.float64]:
    """Probability of drawing the portrait and each of its views, `[1 + views]`: one portrait a batch, the rest even."""
    portrait = 1 / batch if views else 1.0
    return np.concatenate([[portrait], np.full(views, (1 - portrait) / max(views, 1))])
