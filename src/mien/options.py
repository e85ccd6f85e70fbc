"""Every option of an encode, in one frozen value: the command line, batches, the studio and the stage cache take it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal

from mien.errors import InputError
from mien.method.gauss_newton import DescentOptions
from mien.method.solvers.adam_reference import AdamAttributeOptions, AdamPoseOptions
from mien.method.solvers.registry import solver_named
from mien.method.stage1_align.align import AlignOptions
from mien.method.stage2_invert import InversionOptions
from mien.method.stage4_pose import PoseOptions
from mien.method.stage5_attributes import AttributeOptions
from mien.personalize.options import (
    PersonSize,
    RefinementOptions,
    TuningOptions,
)
from mien.personalize.refit import RefitOptions

METHODS = ("mien", "paper")
INVERSIONS = ("encoder", "restyle")
SIZES = (256, 512, 1024)
MOST_SEED = 2**31 - 1
LEAST_EFFORT, MOST_EFFORT = 0.1, 10.0
UNTUNED_SIZE = "the size of a person's weights goes with tuning only."


@dataclass(frozen=True)
class ClipOptions:
    """Which part of the clip is encoded: from `start`, for `duration` seconds (None: to its end). `sound`: carry it
    along."""

    start: float = 0.0
    duration: float | None = None
    sound: bool = True


@dataclass(frozen=True)
class EncodeOptions:
    """How a clip is encoded. What is None is left out.

    `method`: the preset that these options began as. `tuning`: of the generator to the person. `refinement`, `refit`:
    the joint pass and the re-fit of each frame, against the frames themselves; these are beyond the paper.
    `person_size`: most bytes of the weights where they are tuned, None: all, `auto`: by the picture's size
    (`default_person_size`). `effort`: so many times the usual steps of tuning and refinement, 0.1 to 10. `minutes`: how
    long the encode may take; then `effort` is the most that is taken, and what the result is depends on the machine's
    speed. `size`: side of the picture in pixels, None: the pack's own. The same `seed` gives the same stream on one machine.

    Raises InputError for values out of range, and for an effort, minutes or a size that nothing would use.
    """

    method: Literal["mien", "paper"] = "mien"
    clip: ClipOptions = field(default_factory=ClipOptions)
    align: AlignOptions = field(default_factory=AlignOptions)
    inversion: InversionOptions = field(default_factory=InversionOptions)
    tuning: TuningOptions | None = field(default_factory=TuningOptions)
    pose: PoseOptions | AdamPoseOptions = field(default_factory=PoseOptions)
    attributes: AttributeOptions | AdamAttributeOptions = field(default_factory=AttributeOptions)
    refinement: RefinementOptions | None = field(default_factory=RefinementOptions)
    refit: RefitOptions | None = field(default_factory=RefitOptions)
    person_size: PersonSize = None
    effort: float = 1.0
    minutes: float | None = None
    size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"there is no method {self.method!r}: take {' or '.join(METHODS)}.")
        if not LEAST_EFFORT <= self.effort <= MOST_EFFORT:
            raise InputError(f"effort goes from 0.1 to 10: {self.effort} is outside.")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise InputError(f"the minutes are more than 0, not {self.minutes:g}.")
        if self.minutes is not None and self.method == "paper":
            raise InputError("the paper's method takes as long as it takes: minutes go with the method mien.")
        if not 0 <= self.seed <= MOST_SEED:
            raise InputError(f"the seed goes from 0 to {MOST_SEED}: {self.seed} is outside.")
        if self.size is not None and self.size not in SIZES:
            raise InputError(f"the size is {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}, not {self.size}.")
        untrained = self.tuning is None and self.refinement is None
        if untrained and (self.effort != 1.0 or self.minutes is not None):
            raise InputError("effort and minutes are of tuning: without it there is nothing that they change.")
        if self.minutes is not None and (self.tuning is None or self.refinement is None):
            raise InputError("minutes are shared by tuning and refinement: they go with both, not with one of them.")
        if isinstance(self.person_size, int) and self.person_size < 1:
            raise InputError(f"the size of a person's weights is a number of bytes from 1 on, not {self.person_size}.")
        # The default may stay where tuning is taken out of a preset.
        if self.person_size not in (None, "auto") and self.tuning is None:
            raise InputError(UNTUNED_SIZE)

    @staticmethod
    def mien() -> EncodeOptions:
        """Ours: stages 4 and 5 give the starting point, in one iteration, of a joint refinement and a re-fit."""
        return EncodeOptions(
            pose=PoseOptions(iterations=1, every=2),
            attributes=AttributeOptions(every=2, descent=DescentOptions(iterations=1)),
            person_size="auto",
        )

    @staticmethod
    def untuned() -> EncodeOptions:
        """Ours without a tuned generator: stages 4 and 5 against S_t."""
        return EncodeOptions(tuning=None, refinement=None, refit=None)

    @staticmethod
    def paper() -> EncodeOptions:
        """The paper's method and nothing after it: fixed pivots, Eq. 1 and 2, Algorithm 1 with Eq. 7 to 12, against
        S_t."""
        return EncodeOptions(
            method="paper",
            tuning=TuningOptions.paper(),
            pose=AdamPoseOptions(),
            attributes=AdamAttributeOptions(),
            refinement=None,
            refit=None,
        )

    @staticmethod
    def of(
        method: str = "mien",
        *,
        aligned: bool = False,
        tune: bool = True,
        person_size: int | Literal["full"] | None = None,
        inversion: str = "encoder",
        effort: float = 1.0,
        minutes: float | None = None,
        start: float = 0.0,
        duration: float | None = None,
        seed: int = 0,
        face: int | None = None,
        sound: bool = True,
        optimizer: str | None = None,
        real_targets: bool = False,
        size: int | None = None,
    ) -> EncodeOptions:
        """The options of a preset, changed by the keywords of `mien.encode` and of the command line.

        `aligned`: the frames are face crops in FFHQ framing already; stage 1 is skipped and the roll is 0. `tune`: tune
        the generator to the person first, and send the difference. `person_size`: most bytes of the difference, or
        `full`; None: 188,000 for pictures of at most 256 pixels and 400,000 for larger ones, and all weights with the
        method `paper`. `inversion`: `encoder`, or `restyle` for several looks at each frame. `face`: which face, from 1
        at the left; the largest by default. `optimizer`: how stages 4 and 5 are solved, `gauss-newton` or `reference`,
        the paper's plain form, which also leaves out the re-fit; None: the method's own. `real_targets`: stage 5 fits
        the frames I_t in place of S_t (the paper's ablation, Sec. 4.2). The others: see `EncodeOptions`.

        Raises InputError.
        """
        if method not in METHODS:
            raise InputError(f"there is no method {method!r}: take {' or '.join(METHODS)}.")
        if inversion not in INVERSIONS:
            raise InputError(f"there is no inversion {inversion!r}: take {' or '.join(INVERSIONS)}.")
        if method == "paper":
            options = EncodeOptions.paper()
            options = options if tune else replace(options, tuning=None)
        else:
            options = EncodeOptions.mien() if tune else EncodeOptions.untuned()
        if optimizer is not None:
            solver = solver_named(optimizer)
            if optimizer == "reference":
                options = replace(options, pose=solver.pose, attributes=solver.attributes, refit=None)
            elif method == "paper":
                options = replace(options, pose=solver.pose, attributes=solver.attributes)
        if person_size is not None and options.tuning is None:
            raise InputError(UNTUNED_SIZE)
        if person_size is not None:
            options = replace(options, person_size=None if person_size == "full" else person_size)
        if real_targets:
            options = replace(options, attributes=replace(options.attributes, target="frame"))
        return replace(
            options,
            clip=ClipOptions(start, duration, sound),
            align=AlignOptions(aligned, face),
            inversion=InversionOptions(restyle=inversion == "restyle"),
            effort=effort,
            minutes=minutes,
            size=size,
            seed=seed,
        )

    def without_tuning(self) -> EncodeOptions:
        """Ours without a tuned generator, of the same part of the clip, at the same size, solved in the same way."""
        plain = EncodeOptions.untuned()
        if isinstance(self.pose, AdamPoseOptions):
            plain = replace(plain, pose=self.pose, attributes=self.attributes)
        return replace(
            plain, clip=self.clip, align=self.align, inversion=self.inversion, size=self.size, seed=self.seed,
            attributes=replace(plain.attributes, target=self.attributes.target),
        )  # fmt: skip

    def key(self) -> str:
        """A hash of all options, nested ones with the names of their classes."""
        return hashlib.sha256(repr(self).encode()).hexdigest()
