"""The loop that tuning, refinement and portraits share: one optimiser step a batch, rates by the schedule, a deadline.

Which frames a step draws is `mien.personalize.sampling`'s, how far they are off `mien.personalize.image_loss`'s. What
styles the frames of a batch have is the caller's: `Trainer.run` asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mien.nets.generator import Generator
from mien.personalize.generator_params import Weights
from mien.personalize.image_loss import ImageLoss
from mien.personalize.losses import resized
from mien.personalize.muon import Moved, Muon
from mien.personalize.noise_schedule import noise_rates
from mien.personalize.options import MuonOptions
from mien.personalize.sampling import Batch, BatchSampler, Probability
from mien.personalize.schedule import Schedule
from mien.personalize.training_data import TrainingData
from mien.runtime.fused_adam import FusedAdam
from mien.runtime.monitor import StageMonitor
from mien.runtime.precision import autocast_bf16
from mien.runtime.resumable_loop import Loop
from mien.runtime.team import Team, team

LARGEST_GRADIENT = 2.0  # norm

# The styles of the frames of a batch, and a loss of the caller's own, a mean over them.
Step = Callable[[Generator, Batch], tuple[list[Tensor], Tensor | None]]
# A loss that is taken once a step, whatever frames were drawn; None where it is not its turn.
Once = Callable[[Generator, Batch], Tensor | None]


def _never(generator: Generator, batch: Batch) -> None:
    """The caller has no loss of that kind."""


def _sum(gradients: Iterable[Tensor | None]) -> Tensor | None:
    """The sum of those that are there, in their order."""
    total: Tensor | None = None
    for gradient in gradients:
        if gradient is not None:
            total = gradient if total is None else total + gradient
    return total


class Trainer:
    """Trains `weights` and other tensors against the frames of a clip."""

    def __init__(
        self,
        weights: Weights,
        data: TrainingData,
        rate: float,
        more: Sequence[tuple[Sequence[Tensor], float]],
        schedule: Schedule,
        probability: Probability,
        monitor: StageMonitor,
        noise_rate: Tensor | None = None,
    ) -> None:
        """`rate` of the weights; `more`: other tensors that are trained, with their rates; `probability` of drawing
        each frame; `noise_rate [1, 1, h, w]`: of noise constants, by default `noise_rates` of the data."""
        self.weights, self._data, self._schedule, self._monitor = weights, data, schedule, monitor
        self._random = np.random.RandomState(schedule.seed)
        self._sampler = BatchSampler(data, schedule, probability, self._random)
        self._image_loss = ImageLoss(data, schedule)
        self._noise_rate = noise_rates(data.regions, data.steady) if noise_rate is None else noise_rate
        self._more = [tensor for tensors, _ in more for tensor in tensors]
        # Muon for the generator alone: on an encoder it takes a third as long as all else of a step.
        groups: list[tuple[list[Tensor], float, Moved]] = [
            (g.tensors, rate * g.rate, "matrices" if g.matrices else "convolutions") for g in weights.groups
        ]
        groups += [(list(tensors), r, "nothing") for tensors, r in more]
        groups = [group for group in groups if len(group[0])]
        self._trained = [tensor for tensors, _, _ in groups for tensor in tensors]
        self._rates = [r for _, r, _ in groups]
        self._optimiser = optimiser_of(groups, schedule.muon, data.others.device)

    def run(self, step: Step, once: Once = _never) -> None:
        """Train. The frames of a batch are shared by threads, so `step` is called with some of them at a time.

        Where the time that is left (`StageMonitor.seconds`, what an earlier run took of it included) is not enough for
        all steps, there are fewer, with all of the schedule in them.
        """
        planned, tick, limit = self._schedule.steps, self._monitor.tick, self._monitor.seconds
        loop = Loop([*self.weights.state, *self._more], self._optimiser, self._random, self._monitor.checkpoint)
        with torch.random.fork_rng(devices=[]), team(self._data.others.device) as threads:
            torch.manual_seed(self._schedule.seed)
            done = first = loop.resume()
            before = loop.notes.get("seconds", 0.0)
            if loop.notes:
                self._schedule = self._schedule.with_steps(int(loop.notes["steps"]), int(loop.notes["low_steps"]))
            tick(done)
            begin = time.monotonic()
            while done < self._schedule.steps:
                self._one(done, step, once, threads)
                done += 1
                tick(1)
                taken = time.monotonic() - begin
                if limit is not None:
                    self._schedule = self._schedule.shortened(done, taken / (done - first), limit - before - taken)
                now = self._schedule
                loop.notes = {"seconds": before + taken, "steps": now.steps, "low_steps": now.low_steps}
                loop.done(done - 1)
        tick(planned - done)

    def _one(self, number: int, step: Step, once: Once, threads: Team) -> None:
        """One step: render, losses, gradient, update."""
        schedule, weights = self._schedule, self.weights
        factor = schedule.rate_factor(number)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        batch = self._sampler.draw(number, number < schedule.low_steps)
        placed = weights.materialize(threads)
        sources = [*placed, *self._more]

        def gradients_of(part: slice | None) -> tuple[Tensor | None, ...]:
            """Of what some frames add to the loss, or, for None, of what is added once."""
            with autocast_bf16(self._data.others.device):
                loss = self._taken_once(once, batch) if part is None else self._of_frames(step, batch, part)
            if not loss.requires_grad:
                return (None,) * len(sources)
            return torch.autograd.grad(loss, sources, allow_unused=True)

        parts = threads.split(len(batch.index), -(-len(batch.index) // threads.size))
        shares = list(threads.map(gradients_of, [*parts, None]))
        gradients = list(threads.map(_sum, list(zip(*shares, strict=True))))
        self._optimiser.zero_grad(set_to_none=True)
        weights.backward(gradients[: len(placed)], threads)
        for tensor, gradient in zip(self._more, gradients[len(placed) :], strict=True):
            tensor.grad = gradient
        weights.after_step(number, schedule.steps)
        nn.utils.clip_grad_norm_(self._trained, LARGEST_GRADIENT)
        before = [constants.detach().clone() for constants in weights.noise]
        self._optimiser.step()
        with torch.no_grad():  # a rate for each pixel: Adam's steps do not ask how large a gradient is
            for constants, old in zip(weights.noise, before, strict=True):
                constants.copy_(torch.lerp(old, constants, resized(self._noise_rate, constants.shape[-1])))

    def _of_frames(self, step: Step, batch: Batch, part: slice) -> Tensor:
        """What some frames of a batch add to the loss, which is a mean over all."""
        some = batch.part(part)
        styles, extra = step(self.weights.generator, some)
        loss = self._image_loss(self.weights.generator, styles, some)
        if extra is not None:
            loss = loss + extra
        return loss * (len(some.index) / len(batch.index))

    def _taken_once(self, once: Once, batch: Batch) -> Tensor:
        """What is added to the loss whatever was drawn."""
        loss = once(self.weights.generator, batch)
        return self._data.others.new_zeros(()) if loss is None else loss


def optimiser_of(
    groups: Sequence[tuple[list[Tensor], float, Moved]], muon: MuonOptions | None, device: torch.device
) -> FusedAdam:
    """Muon for convolutions or factors and Adam for the rest, or Adam alone where `muon` is None; `groups`: tensors,
    their rate, and what of them Muon moves."""
    parameters = [{"params": tensors, "lr": rate, "muon": moved} for tensors, rate, moved in groups]
    fused = device.type in ("cpu", "cuda")  # one pass over weights and moments in place of ten
    if muon is None:
        return FusedAdam(parameters, (0.9, 0.999), fused=fused)
    return Muon(parameters, (0.5, 0.99), momentum=muon.momentum, share=muon.max_update, fused=fused)
