"""The loop that tuning, refinement and portraits share: one optimiser step a batch, rates by the schedule, a deadline.

Which frames a step draws is `mien.personalize.sampling`'s, how far they are off `mien.personalize.image_loss`'s. What styles the
frames of a batch have is the caller's: `Trainer.run` asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.nets.generator import Generator
from mien.personalize.generator_params import Weights
from mien.personalize.image_loss import ImageLoss
from mien.personalize.losses import locality_loss, resized
from mien.personalize.muon import Muon
from mien.personalize.noise_schedule import noise_rates
from mien.personalize.options import MuonOptions
from mien.personalize.sampling import Batch, BatchSampler
from mien.personalize.schedule import Schedule
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import StageMonitor
from mien.runtime.precision import autocast_bf16
from mien.runtime.resumable_loop import Loop

LOCALITY_EVERY = 8  # steps
LARGEST_GRADIENT = 2.0  # norm

# The styles of the frames of a batch, and a loss of the caller's own.
Step = Callable[[Generator, Batch], tuple[list[Tensor], Tensor | None]]


class Trainer:
    """Trains `weights` and other tensors against the frames of a clip."""

    def __init__(
        self,
        weights: Weights,
        data: TrainingData,
        rate: float,
        more: Sequence[tuple[Sequence[Tensor], float]],
        schedule: Schedule,
        probability: NDArray[np.float64],
        monitor: StageMonitor,
        noise_rate: Tensor | None = None,
    ) -> None:
        """`rate` of the weights; `more`: other tensors that are trained, with their rates; `probability [T]` of drawing each
        frame; `noise_rate [1, 1, h, w]`: of noise constants, by default `noise_rates` of the data."""
        self.weights, self._data, self._schedule, self._monitor = weights, data, schedule, monitor
        self._random = np.random.RandomState(schedule.seed)
        self._sampler = BatchSampler(data, schedule, probability, self._random)
        self._image_loss = ImageLoss(data, schedule)
        self._noise_rate = noise_rates(data.regions, data.steady) if noise_rate is None else noise_rate
        each = [*((tensors, rate * factor) for tensors, factor in weights.groups), *more]
        groups = [(list(tensors), r) for tensors, r in each if len(tensors)]
        self._trained = [tensor for tensors, _ in groups for tensor in tensors]
        self._rates = [r for _, r in groups]
        self._optimiser = optimiser_of(groups, schedule.muon, data.others.device)

    def run(self, step: Step) -> None:
        """Train.

        Where the time that is left (`StageMonitor.seconds`) is not enough for all steps, there are fewer, with all of the
        schedule in them.
        """
        planned, tick, limit = self._schedule.steps, self._monitor.tick, self._monitor.seconds
        more = [t for t in self._trained if not any(t is kept for kept in self.weights.state)]
        loop = Loop([*self.weights.state, *more], self._optimiser, self._random, self._monitor.checkpoint)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._schedule.seed)
            done = first = loop.resume()
            tick(done)
            begin = time.monotonic()
            while done < self._schedule.steps:
                self._one(done, step)
                loop.done(done)
                done += 1
                tick(1)
                if limit is not None:
                    taken = time.monotonic() - begin
                    self._schedule = self._schedule.shortened(done, taken / (done - first), limit - taken)
        tick(planned - done)

    def _one(self, number: int, step: Step) -> None:
        """One step: render, losses, gradient, update."""
        schedule, weights = self._schedule, self.weights
        factor = schedule.rate_factor(number)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        batch = self._sampler.draw(number, number < schedule.low_steps)
        weights.place()
        with autocast_bf16(batch.target.device):
            styles, extra = step(weights.generator, batch)
            loss = self._image_loss(weights.generator, styles, batch)
            if schedule.locality and weights.groups and number % LOCALITY_EVERY == 0:
                data = self._data
                local = locality_loss(weights.generator, data.original, data.others, self._random)
                loss = loss + schedule.locality * local
        if extra is not None:
            loss = loss + extra
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        weights.observe(number, schedule.steps)
        nn.utils.clip_grad_norm_(self._trained, LARGEST_GRADIENT)
        before = [constants.detach().clone() for constants in weights.noise]
        self._optimiser.step()
        with torch.no_grad():  # a rate for each pixel: Adam's steps do not ask how large a gradient is
            for constants, old in zip(weights.noise, before, strict=True):
                constants.copy_(torch.lerp(old, constants, resized(self._noise_rate, constants.shape[-1])))


def optimiser_of(
    groups: Sequence[tuple[list[Tensor], float]], muon: MuonOptions | None, device: torch.device
) -> torch.optim.Adam:
    """Muon for convolutions and Adam for the rest, or Adam alone where `muon` is None; `groups`: tensors and their rates."""
    parameters = [{"params": tensors, "lr": rate} for tensors, rate in groups]
    fused = device.type in ("cpu", "cuda")  # one pass over weights and moments in place of ten
    if muon is None:
        return torch.optim.Adam(parameters, betas=(0.9, 0.999), fused=fused)
    return Muon(parameters, (0.5, 0.99), momentum=muon.momentum, share=muon.max_update, fused=fused)
