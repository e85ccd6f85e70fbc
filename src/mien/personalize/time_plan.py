"""How many steps fit into so many minutes on this machine.

The unit is the time of one gradient of the generator at the size that is encoded, or at 512 pixels where that is
larger: there steps draw half as many frames, and the fit looks at 512. What a step of tuning and what a frame of the fit
take is nearly the same number of such units on packs and machines that are quite unlike in speed; what is wrong about
the estimate is made good in the loops, which know their deadline (`StageMonitor.seconds`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from mien.packs.pack import Pack
from mien.runtime.team import team

LARGEST = 512
# In gradients of one picture; of `mini` and `ffhq-mobile` at 256 it is 4 to 6 a frame, 4 to 7 and 5 to 7 a step, of the
# latter at 1024 6, 6 and 5.
FRAME, TUNING_STEP, REFINEMENT_STEP = 5.5, 6.5, 5.5
REPEATS = 3


@dataclass(frozen=True)
class TimePlan:
    """`effort`: of tuning and refinement, None where there is no time for any; `seconds`: how long all takes by the
    estimate; `limits`: seconds that the loops `tune` and `refine` may take."""

    effort: float | None
    seconds: float
    limits: dict[str, float]


def gradient_seconds(pack: Pack) -> float:
    """Seconds that one gradient of the generator's weights takes at the pack's resolution, or `LARGEST`, where, as in
    tuning, each thread computes one and all are counted: the fastest of three rounds."""
    generator, latent = pack.generator, pack.people[:1].float()
    size = min(pack.resolution, LARGEST)
    parameters = [p for p in generator.parameters() if p.is_floating_point()]
    before = [p.requires_grad for p in parameters]

    def gradient(number: int) -> None:
        del number
        with torch.enable_grad():
            loss = generator.picture(generator.styles(latent), size).square().mean()
        torch.autograd.grad(loss, parameters, allow_unused=True)

    fastest = float("inf")
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with team(generator.device) as threads:
            for _ in range(REPEATS):
                begin = time.perf_counter()
                list(threads.map(gradient, range(threads.size)))
                fastest = min(fastest, (time.perf_counter() - begin) / threads.size)
    finally:
        for parameter, was in zip(parameters, before, strict=True):
            parameter.requires_grad_(was)
    return fastest


def plan_time(
    seconds: float, gradient: float, frames: int, tuning_steps: int, refinement_steps: int, least: float, most: float
) -> TimePlan:
    """Plan an encode of `frames` in `seconds`.

    `gradient`: what `gradient_seconds` gives; the steps are those of effort 1; from `least` to `most` effort. Where
    even the least takes longer, the plan is without tuning, whose `seconds` may be more than there are.
    """
    fit = FRAME * gradient * frames
    tuning, refinement = TUNING_STEP * gradient * tuning_steps, REFINEMENT_STEP * gradient * refinement_steps
    effort = min((seconds - fit) / max(tuning + refinement, 1e-9), most)
    if effort < least:
        return TimePlan(None, fit, {})
    left = max(seconds - fit, 0.0)
    share = tuning / (tuning + refinement)
    limits = {"tune": left * share, "refine": left * (1 - share)}
    return TimePlan(effort, fit + effort * (tuning + refinement), limits)
