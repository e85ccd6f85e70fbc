"""Pivotal tuning to one image around its fixed inversion (the paper, Sec. 4.1 and 4.3; Roich et al. 2021), and no
more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor

from mien.packs.pack import Pack
from mien.personalize.generator_params import weights_for
from mien.personalize.options import TuningOptions
from mien.personalize.pti import pivotal_tuning
from mien.personalize.training_data import TrainingData
from mien.reenact.face_source import FaceExamples, LearnedFace
from mien.runtime.monitor import StageMonitor


@dataclass(frozen=True)
class PivotalImageTuning:
    """`training`: as of a clip, one image a step; `person_size`: most bytes of the tuned weights, None for all of
    them."""

    training: TuningOptions = field(default_factory=lambda: replace(TuningOptions.paper(), batch=1))
    person_size: int | None = None
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.training.steps


def tune_to_image(
    portrait: FaceExamples,
    person: LearnedFace,
    pivot: Tensor,
    pack: Pack,
    options: PivotalImageTuning,
    tick: Callable[[int], None] = lambda n: None,
) -> LearnedFace:
    """Tune the pack's generator until it draws the portrait at `pivot`, which stays as it is, as does L_ID.

    `person`: L_ID, the pivot turned to face the camera; `pivot [1, L, D]`: the portrait's inversion E(I), optimised or
    not; `tick`: called with 1 after each step. Deterministic for a seed on one machine.
    """
    weights = weights_for(pack.generator, options.person_size, noise=options.training.noise)
    data = TrainingData.of(pack, portrait.crops[:1], portrait.landmarks[:1])
    tuned = pivotal_tuning(
        weights, pack.encoder, data, pivot, replace(options.training, seed=options.seed),
        monitor=StageMonitor(tick),
    )  # fmt: skip
    return LearnedFace(person.identity, tuned.delta.tobytes())
