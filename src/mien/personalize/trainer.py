"""The loop that tuning and refining share: frames drawn evenly, image losses, locality, rates, early stop.

What styles the frames that were drawn have is the caller's: `Trainer.run` asks for them. At large sizes a step draws
the whole picture at half its size and the last block in a random window only, which is nearly as cheap as half the size
and sees every pixel in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.face.masks import ClipRegions
from mien.media.images import to_float
from mien.method.image_sequences import CropFrames
from mien.method.landmark_targets import LandmarkTargetOptions, Reading, of_frames, of_mesh
from mien.method.losses import look
from mien.nets.generator import Generator, Window
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylespace import Channel
from mien.packs.pack import Pack
from mien.personalize.generator_params import Weights
from mien.personalize.losses import feature_loss, locality_loss, pyramid_loss, resized, texture_loss
from mien.personalize.muon import Muon
from mien.personalize.noise_schedule import noise_rates, steadiness, texture_places
from mien.personalize.options import MuonOptions, TrainingOptions
from mien.runtime.frame_store import CropFile, Crops, Joined
from mien.runtime.monitor import StageMonitor
from mien.runtime.precision import autocast_bf16
from mien.runtime.resumable_loop import Loop

WINDOWS_FROM = 256  # pixels: from this size on, the last block is drawn in a window of half the side
_RIM = 24  # half of how far windows may begin outside, to be moved inside: else few ever hold the picture's rim
LOCALITY_EVERY = 8  # steps
_LAST_SHARE = 0.1  # of the rate at the start, what is left at the end


def even_sampling(landmarks: NDArray[np.floating], groups: int = 24) -> NDArray[np.float64]:
    """Probability `[T]` of drawing each frame of landmarks `[T, N, 2]`: half uniform, half even over expressions.

    The frames are grouped around at most `groups` expressions, each the farthest from those before it (Gonzalez
    1985); every group is drawn equally often, however many frames it has.
    """
    points = (landmarks - landmarks.mean(1, keepdims=True)).reshape(len(landmarks), -1).astype(np.float64)
    centre = int(np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin())
    nearest = np.full(len(points), np.inf)
    group = np.zeros(len(points), np.int64)
    for number in range(min(groups, len(points))):
        away = np.linalg.norm(points - points[centre], axis=1)
        group = np.where(away < nearest, number, group)
        nearest = np.minimum(nearest, away)
        centre = int(nearest.argmax())
    count = np.bincount(group, minlength=1)
    weight = 0.5 / len(points) + 0.5 / (np.count_nonzero(count) * count[group])
    return weight / weight.sum()


def draw(random: np.random.RandomState, probability: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """`count` indices by their probabilities, spread over the clip (systematic sampling), in random order."""
    places = (random.rand() + np.arange(count)) / count
    chosen = np.searchsorted(np.cumsum(probability), places * (1 - 1e-9), side="right")
    return random.permutation(np.minimum(chosen, len(probability) - 1))


def batch_at(size: int, batch: int) -> int:
    """How many of `batch` frames a step takes at `size` pixels: a gradient at 1024x1024 fills about 1 GiB a frame."""
    return batch if size <= 512 else min(batch, 2)


@dataclass(frozen=True)
class TrainingData:
    """What a person is learned from. `original`: the pack's generator; `perceptual`: see `Pack.perceptual`; `channels`:
    V; `others [M, L, D]`: latents of other people, for locality; `crops` uint8 `[T, S, S, 3]`; `landmarks [T, 478, 2]`
    and `regions` of them; `steady [1, 1, 64, 64]`: where the fine picture stays (`mien.personalize.noise_schedule`); `reading`: what
    their expressions measure, if that is known."""

    original: Generator
    flow: HeadPoseFlow
    perceptual: Any
    channels: tuple[Channel, ...]
    others: Tensor
    crops: Crops
    landmarks: NDArray[np.floating]
    regions: ClipRegions
    steady: Tensor
    reading: Reading | None

    @staticmethod
    def of(
        pack: Pack, crops: Crops, landmarks: NDArray[np.floating], targets: LandmarkTargetOptions | None = None
    ) -> TrainingData:
        """Of crops and their landmarks, with the pack's networks; without landmark `targets` where they are None."""
        reading = None
        if targets is not None:
            frames = CropFrames(crops, min(pack.stage_sizes.attributes, pack.resolution), pack.device)
            reading = of_frames(
                pack.landmark_reader, frames, of_mesh(landmarks, crops.shape[1]).to(pack.device), targets
            )
        return TrainingData(
            pack.generator, pack.flow, pack.perceptual, pack.channels, pack.people, crops, landmarks,
            ClipRegions(landmarks, crops.shape[1], pack.device), steadiness(crops).to(pack.device), reading,
        )  # fmt: skip

    def extended(self, crops: CropFile, landmarks: NDArray[np.floating]) -> TrainingData:
        """With more pictures of the person, after those that it has. What is steady, and what expressions measure, stays: of
        the additional ones that is unknown."""
        if not len(crops):
            return self
        size, reading = crops.shape[1], self.reading
        if reading is not None:
            none = reading.weight.new_zeros(len(crops), reading.weight.shape[1])
            reading = Reading(torch.cat([reading.wanted, none]), torch.cat([reading.weight, none]))
        landmarks = np.concatenate([self.landmarks, landmarks])
        return replace(
            self, crops=Joined(self.crops, crops), landmarks=landmarks, reading=reading,
            regions=ClipRegions(landmarks, size, self.others.device),
        )  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """`steps` of `batch` frames each. `low_steps` of them, at first, at `resolution`; the others at the generator's
    own. `warm`: steps until the rates are full. Early stop: where the mean loss of `compared` steps at full size is lower
    than that of as many before by less than the share `least_gain`, the rates fall to their end within a tenth of the
    steps, and that was all. `perceptual`, `locality`, `texture`, `landmarks`: weights beside the `pixel_loss`. `muon`: None for Adam alone."""

    steps: int
    batch: int
    resolution: int
    low_steps: int
    warm: int
    perceptual: float
    locality: float
    least_gain: float
    seed: int
    compared: int = 120  # over 40, chance stopped a run that was gaining
    texture: float = 1.0
    landmarks: float = 0.3
    pixel_loss: Literal["pyramid", "l2"] = "pyramid"
    muon: MuonOptions | None = field(default_factory=MuonOptions)
    windows: bool = True

    @staticmethod
    def of(options: TrainingOptions, *, resolution: int, low_steps: int, warm: int, seed: int) -> Schedule:
        """The schedule of tuning or refinement."""
        return Schedule(
            steps=options.steps, batch=options.batch, resolution=resolution, low_steps=low_steps, warm=warm,
            perceptual=options.perceptual, locality=options.locality, least_gain=options.least_gain, seed=seed,
            texture=options.texture, landmarks=options.landmarks, pixel_loss=options.pixel_loss, muon=options.muon,
            windows=options.windows,
        )  # fmt: skip


def shortened(schedule: Schedule, done: int, seconds: float, left: float) -> Schedule:
    """The schedule with the steps that still fit into `left` seconds after `done` steps, each of which took `seconds`; it
    is not made longer."""
    steps = min(schedule.steps, done + max(int(left / seconds), 0))
    low = max(min(schedule.low_steps * steps // schedule.steps, schedule.low_steps), min(done, schedule.low_steps))
    return replace(schedule, steps=steps, low_steps=low)


@dataclass(frozen=True)
class Drawn:
    """The frames of one step: their numbers `index [N]`, what is to be rendered of them, `target [N, 3, S, S]` in
    [-1, 1], how much each pixel matters, `weight [N, 1, h, w]`, `window`, where the last block is drawn, if not
    everywhere, and the step's `number`."""

    index: Tensor
    target: Tensor
    weight: Tensor
    window: Window | None
    number: int


# The styles of the frames that were drawn, and a loss of the caller's own.
Step = Callable[[Generator, Drawn], tuple[list[Tensor], Tensor | None]]


class Trainer:
    """Trains `weights` and other tensors against the frames of a clip."""

    def __init__(
        self,
        weights: Weights,
        data: TrainingData,
        rate: float,
        more: Sequence[tuple[Sequence[Tensor], float]],
        schedule: Schedule,
        monitor: StageMonitor,
        rates: Tensor | None = None,
        probability: NDArray[np.float64] | None = None,
    ) -> None:
        """`rates [1, 1, h, w]`: of noise constants, by default `noise_rates` of the data; `probability [T]` of drawing each
        frame, by default `even_sampling`."""
        self.weights, self._data, self._schedule, self._monitor = weights, data, schedule, monitor
        self._random = np.random.RandomState(schedule.seed)
        # Where the sum of RGB below the last block is no picture, there are no windows.
        original = data.original
        self._windows = (
            schedule.windows and original.draws_windows and original.rgb_valid_from <= original.resolution // 2
        )
        self._probability = even_sampling(data.landmarks) if probability is None else probability
        self._texture_places = texture_places(data.regions, data.steady)
        self._noise_rates = noise_rates(data.regions, data.steady) if rates is None else rates
        groups = [(tensors, rate * factor) for tensors, factor in weights.groups] + list(more)
        groups = [(list(tensors), r) for tensors, r in groups if len(tensors)]
        self._trained = [tensor for tensors, _ in groups for tensor in tensors]
        parameters = [{"params": tensors, "lr": r} for tensors, r in groups]
        fused = data.others.device.type in ("cpu", "cuda")  # one pass over weights and moments in place of ten
        self._optimiser: torch.optim.Adam
        if schedule.muon is None:
            self._optimiser = torch.optim.Adam(parameters, betas=(0.9, 0.999), fused=fused)
        else:
            momentum, share = schedule.muon.momentum, schedule.muon.max_update
            self._optimiser = Muon(parameters, (0.5, 0.99), momentum=momentum, share=share, fused=fused)
        self._rates = [r for _, r in groups]
        self._losses = torch.full((2 * schedule.compared,), float("nan"))  # of the last steps, in turn
        self._end = torch.tensor([-1, 0])  # once it is decided: the step the fall began at, and the last one

    def run(self, step: Step) -> float:
        """Train. Returns the mean loss of the last ten steps.

        Where the time that is left (`StageMonitor.seconds`) is not enough for all steps, there are fewer, with all of the
        schedule in them.
        """
        plan, tick = self._schedule, self._monitor.tick
        more = [t for t in self._trained if not any(t is kept for kept in self.weights.state)]
        state = [*self.weights.state, *more, self._losses, self._end]
        loop = Loop(state, self._optimiser, self._random, self._monitor.checkpoint)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            done = first = loop.resume()
            tick(done)
            begin = time.monotonic()
            while done < self._schedule.steps and not 0 <= self._end[0] < self._end[1] <= done:
                self._one(done, step)
                loop.done(done)
                done += 1
                tick(1)
                if self._monitor.seconds is not None:
                    self._schedule = shortened(
                        self._schedule, done, (time.monotonic() - begin) / (done - first),
                        self._monitor.seconds - (time.monotonic() - begin),
                    )  # fmt: skip
        tick(plan.steps - done)
        recent = self._losses.roll(-(done % len(self._losses)))
        return float(recent[-10:].nanmean())

    def _one(self, number: int, step: Step) -> None:
        plan, weights = self._schedule, self.weights
        fall = self._fall(number)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * fall
        drawn = self._draw(number)
        weights.place()
        device = drawn.target.device
        with autocast_bf16(device):
            styles, extra = step(weights.generator, drawn)
            loss = self._image_loss(weights.generator, styles, drawn)
            if plan.locality and weights.groups and number % LOCALITY_EVERY == 0:
                loss = loss + plan.locality * locality_loss(
                    weights.generator,
                    self._data.original,
                    self._data.others,
                    self._random,
                )
        if extra is not None:
            loss = loss + extra
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        weights.observe(number, plan.steps)
        nn.utils.clip_grad_norm_(self._trained, 2.0)
        before = [constants.detach().clone() for constants in weights.noise]
        self._optimiser.step()
        with torch.no_grad():  # a rate for each pixel: Adam's steps do not ask how large a gradient is
            for constants, old in zip(weights.noise, before, strict=True):
                constants.copy_(torch.lerp(old, constants, resized(self._noise_rates, constants.shape[-1])))
        self._losses[number % len(self._losses)] = loss.detach()
        self._watch(number)

    def _image_loss(self, generator: Generator, styles: list[Tensor], drawn: Drawn) -> Tensor:
        plan, target, loss = self._schedule, drawn.target, drawn.target.new_zeros(())
        weight = torch.ones_like(drawn.weight) if plan.pixel_loss == "l2" else drawn.weight
        if drawn.window is None:
            image = generator.picture(styles, target.shape[-1])
        else:
            image, detail = generator.synthesis_with_detail(styles, drawn.window)
            whole = F.interpolate(weight, target.shape[-2:], mode="bilinear")
            wanted, here = drawn.window.cut(target), drawn.window.cut(whole)
            # Texture at full size for the face's features alone, which are what weighs more than 1: elsewhere noise
            # constants would answer it with dots.
            loss = self._pixel_loss(detail, wanted, here)
            if plan.texture:
                loss = loss + plan.texture * texture_loss(detail, wanted, (here - 1).clamp(0, 1))
            target = F.avg_pool2d(target, 2)
        loss = loss + self._pixel_loss(image, target, weight)
        if plan.texture:
            loss = loss + plan.texture * texture_loss(image, target, weight * self._texture_places)
        with torch.no_grad():
            wanted_look = look(self._data.perceptual, target)
        reading = self._data.reading if plan.landmarks else None
        seen = look(self._data.perceptual, image, measures=reading is not None)
        loss = loss + plan.perceptual * feature_loss(seen.features, wanted_look.features, weight)
        if seen.measures is not None and reading is not None:
            here_read = reading.part(drawn.index)
            wrong = (seen.measures - here_read.wanted).abs() * here_read.weight
            loss = loss + plan.landmarks * wrong.sum(1).mean()
        return loss

    def _pixel_loss(self, image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        if self._schedule.pixel_loss == "l2":
            return (image - target).square().mean()
        return pyramid_loss(image, target, weight)

    def _draw(self, number: int) -> Drawn:
        plan = self._schedule
        full = self.weights.generator.resolution
        size = min(plan.resolution, full) if number < plan.low_steps else full
        chosen = draw(self._random, self._probability, batch_at(size, plan.batch))
        device = self._data.others.device
        images = to_float(self._data.crops[chosen], size, device)
        index = torch.from_numpy(chosen)
        window = None
        if size >= WINDOWS_FROM and size == full and self._windows:
            places = 2 * self._random.randint(-_RIM, size // 4 + 1 + _RIM, size=2)
            top, left = places.clip(0, size // 2).tolist()
            window = Window(top, left, top + size // 2, left + size // 2)
        return Drawn(index, images, self._data.regions.part(index).attention, window, number)

    def _fall(self, number: int) -> float:
        """The share of the rates at a step: up in the first, down on a cosine, in a line once the end is decided."""
        plan = self._schedule
        low = 0.5 * _LAST_SHARE
        share = 0.5 * (1 + np.cos(np.pi * number / plan.steps)) * (1 - low) + low
        share = float(share) * min(1.0, (number + 1) / plan.warm)
        begin, end = self._end.tolist()
        if begin < 0:
            return share
        return max(share * (end - number) / (end - begin), low)

    def _watch(self, number: int) -> None:
        """Early stop: decide the end where nothing more is gained."""
        plan = self._schedule
        full_steps = number + 1 - plan.low_steps
        if self._end[0] >= 0 or not plan.least_gain or full_steps < 2 * plan.compared or (number + 1) % plan.compared:
            return
        # Locality is in every eighth loss, so both windows hold as much of it.
        halves = self._losses.roll(-((number + 1) % len(self._losses))).view(2, plan.compared).mean(1)
        if float(halves[1]) > (1 - plan.least_gain) * float(halves[0]):
            tail = max(plan.steps // 10, 1)
            self._end.copy_(torch.tensor([number + 1, min(number + 1 + tail, plan.steps)]))
