"""What tuning changes in a generator: all of its weights, a compact difference, or nothing.

Each kind owns a copy of the generator and puts the present weights into it (`materialize`). `export` gives the
generator that the receiver will have, and the bytes that take it there.

The compact kind is trained as it travels: the numbers of `mien.format.lowrank` are rounded to their steps in the
forward pass while the gradient passes straight through. A step is c / sqrt(F), F the mean squared gradient of its
piece (the diagonal of the empirical Fisher information): where a rounding error costs less, steps are larger. The one
c is chosen so that the entropy of all numbers meets the size that was asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.errors import InputError
from mien.format import lowrank
from mien.format.weights_codec import apply_delta, encode_delta, tunable
from mien.nets.generator import Generator
from mien.personalize.options import NoiseOptions
from mien.runtime.team import ALONE, Team

NUMBER_BITS = 4.5  # bits a number that the rank is chosen for: fewer numbers, finer, or more, coarser
DEFAULT_NOISE = NoiseOptions()
FACTOR_RATE = 4.0  # a factor moves so much faster than a weight: a weight moves by sums of its products
CHOOSE_EVERY = 15  # training steps
_HEAD, _NUMBER_HEAD = 64, 3  # bytes at most, of a difference and of each of its pieces, beside their numbers
_DECAY = 0.9  # of the running mean of squared gradients


@dataclass(frozen=True)
class ParameterGroup:
    """Tensors that the optimiser moves, at so many times the usual `rate`. `matrices`: they are factors of low rank,
    `[r, n]` each."""

    tensors: list[Tensor]
    rate: float
    matrices: bool = False


class Weights(Protocol):
    """The weights that a training loop changes."""

    generator: Generator  # with the present weights, after `materialize`

    @property
    def groups(self) -> list[ParameterGroup]:
        """What the optimiser moves; empty where the generator stays as it is."""
        ...

    @property
    def state(self) -> list[Tensor]:
        """Everything that a loop must keep to go on later."""
        ...

    @property
    def noise(self) -> list[Tensor]:
        """Those of them that are noise constants, `[r, r]` each."""
        ...

    def materialize(self, threads: Team = ALONE) -> list[Tensor]:
        """Put the present weights into `generator`, before each forward pass; `threads` share the tensors. Returns
        them: what gradients are taken of."""
        ...

    def backward(self, gradients: Sequence[Tensor | None], threads: Team = ALONE) -> None:
        """Carry gradients of what `materialize` returned last on to the tensors of `groups`, which have none yet."""
        ...

    def after_step(self, step: int, steps: int) -> None:
        """Update running statistics and quantisation steps after step `step` (from 0) of `steps`."""
        ...

    def export(self) -> tuple[Generator, bytes]:
        """Return the generator as it travels, without gradients, and its difference to the pack's."""
        ...


class FixedWeights:
    """A generator that stays as it is; `blob` is what it took from the pack's."""

    def __init__(self, generator: Generator, blob: bytes) -> None:
        self.generator, self._blob = generator, blob

    @property
    def groups(self) -> list[ParameterGroup]:
        return []

    @property
    def noise(self) -> list[Tensor]:
        return []

    @property
    def state(self) -> list[Tensor]:
        return []

    def materialize(self, threads: Team = ALONE) -> list[Tensor]:
        return []

    def backward(self, gradients: Sequence[Tensor | None], threads: Team = ALONE) -> None:
        pass

    def after_step(self, step: int, steps: int) -> None:
        pass

    def export(self) -> tuple[Generator, bytes]:
        return self.generator, self._blob


class FullWeights:
    """All tunable weights of a copy of `base`, sent as 8-bit differences."""

    def __init__(self, base: Generator, start: bytes = b"", noise: NoiseOptions | None = DEFAULT_NOISE) -> None:
        self._base, self._options = base, noise
        self.generator = apply_delta(base, start) if start else copy.deepcopy(base)
        self._tuned: list[Tensor] = [p.requires_grad_(True) for p in tunable(self.generator)]
        self._noise = noise_indices(self.generator)
        self._scales = rate_scales(base)

    @property
    def groups(self) -> list[ParameterGroup]:
        weights = [
            (p, s) for i, (p, s) in enumerate(zip(self._tuned, self._scales, strict=True)) if i not in self._noise
        ]
        noise = ParameterGroup(self.noise, 0.0 if self._options is None else self._options.rate)
        return [*_by_scale(weights), noise]

    @property
    def noise(self) -> list[Tensor]:
        return [p for i, p in enumerate(self._tuned) if i in self._noise and self._options is not None]

    @property
    def state(self) -> list[Tensor]:
        return self._tuned

    def materialize(self, threads: Team = ALONE) -> list[Tensor]:
        return [p for p in self._tuned if p.requires_grad]

    def backward(self, gradients: Sequence[Tensor | None], threads: Team = ALONE) -> None:
        for tensor, gradient in zip([p for p in self._tuned if p.requires_grad], gradients, strict=True):
            tensor.grad = gradient

    def after_step(self, step: int, steps: int) -> None:
        pass

    def export(self) -> tuple[Generator, bytes]:
        blob = encode_delta(self._base, self.generator)
        return apply_delta(self._base, blob), blob


class CompactWeights:
    """A low-rank, quantised difference to `base` of at most `size` bytes, from which the rank follows."""

    def __init__(
        self, base: Generator, size: int, start: bytes = b"", noise: NoiseOptions | None = DEFAULT_NOISE
    ) -> None:
        self._base, self._size, self._options = base, size, noise
        before = tunable(base)
        self._before = [p.detach() for p in before]
        shapes = [tuple(p.shape) for p in before]
        self.rank, self.plan = plan_of(base, size)
        device = base.device
        self._signs = lowrank.sign_tensors(self.plan, device)
        numbers: list[NDArray[np.float32]] = [np.zeros(p.shape, np.float32) for p in self.plan]
        if start:
            plan, numbers = lowrank.unpack_numbers(shapes, start)
            if plan != self.plan:
                raise ValueError("the difference to start from was made for another size")
        self._values: list[Tensor] = [nn.Parameter(torch.from_numpy(v).to(device)) for v in numbers]
        self._fisher = torch.zeros(len(self.plan))
        self._steps = torch.zeros(len(self.plan))  # 0: not rounded yet
        self.generator = copy.deepcopy(base)
        self._noise = noise_indices(base)
        self._scales = rate_scales(base)
        self._slots = _slots(self.generator)
        self._pieces: list[list[int]] = [[] for _ in before]  # of each tensor: B and A, or the whole
        for number, piece in enumerate(self.plan):
            self._pieces[piece.tensor].append(number)
        self._factors: dict[int, tuple[Tensor, Tensor]] = {}
        self.materialize()

    @property
    def groups(self) -> list[ParameterGroup]:
        each = list(zip(self._values, self.plan, strict=True))
        whole = [(v, self._scales[p.tensor]) for v, p in each if not p.factor and p.tensor not in self._noise]
        factors = [(v, FACTOR_RATE * self._scales[p.tensor]) for v, p in each if p.factor]
        noise = ParameterGroup(self.noise, 0.0 if self._options is None else self._options.rate)
        return [*_by_scale(whole), noise, *_by_scale(factors, matrices=True)]

    @property
    def noise(self) -> list[Tensor]:
        return [
            v
            for v, p in zip(self._values, self.plan, strict=True)
            if p.tensor in self._noise and self._options is not None
        ]

    @property
    def state(self) -> list[Tensor]:
        return [*self._values, self._fisher, self._steps]

    @torch.no_grad()
    def materialize(self, threads: Team = ALONE) -> list[Tensor]:
        steps = self._steps.tolist()
        placed = list(threads.map(lambda number: self._weight(number, steps), range(len(self._before))))
        for (module, name), weight in zip(self._slots, placed, strict=True):
            setattr(module, name, weight)
        return placed

    def _weight(self, tensor: int, steps: list[float]) -> Tensor:
        """A tunable tensor as it travels. What its gradient needs is kept."""
        first, *more = self._pieces[tensor]
        value, before = _rounded(self._values[first], steps[first]), self._before[tensor]
        if more:
            turned = self._signs[tensor] + _rounded(self._values[more[0]], steps[more[0]])
            self._factors[tensor] = value, turned
            value = lowrank.difference(value, turned, before.shape)
        return (before + value).requires_grad_(True)

    @torch.no_grad()
    def backward(self, gradients: Sequence[Tensor | None], threads: Team = ALONE) -> None:
        # Rounding is no part of it: a number's gradient is that of its rounded value.
        def of(tensor: int) -> tuple[Tensor, ...]:
            gradient = gradients[tensor]
            if gradient is None:
                return ()
            if tensor in self._factors:
                return lowrank.factor_gradients(gradient, *self._factors[tensor])
            return (gradient,)

        for numbers, found in zip(self._pieces, threads.map(of, range(len(self._before))), strict=True):
            for number, gradient in zip(numbers, found, strict=False):
                self._values[number].grad = gradient

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        known = [(i, v.grad) for i, v in enumerate(self._values) if v.grad is not None]
        if known:
            number = torch.tensor([i for i, _ in known])
            norms = torch.stack([torch.linalg.vector_norm(gradient) for _, gradient in known]).cpu()
            now = norms.square() / torch.tensor([gradient.numel() for _, gradient in known])
            before = self._fisher[number]
            self._fisher[number] = torch.where(before == 0, now, _DECAY * before + (1 - _DECAY) * now)
        # Rounded from the middle on; the steps are chosen anew now and then, and settle before the end. `steps` can fall
        # from one call to the next.
        unrounded = step >= steps // 2 and not bool(self._steps.any())
        if unrounded or (steps // 2 < step < steps * 5 // 6 and step % CHOOSE_EVERY == 0):
            self._choose_steps()

    def export(self) -> tuple[Generator, bytes]:
        if float(self._steps.sum()) == 0:
            self._choose_steps()
        scale = 1.0
        while True:
            codes = lowrank.nearest_codes(self._steps.numpy() * scale)
            codes[[not bool(v.detach().any()) for v in self._values]] = 0
            symbols = self._symbols(codes)
            blob = lowrank.pack_numbers(self.rank, codes, symbols)
            if len(blob) <= self._size:
                return apply_delta(self._base, blob), blob
            # Steps twice as large take about a bit from each number that is not zero.
            numbers = sum(int(np.count_nonzero(s)) for s in symbols)
            scale *= 2 ** max(0.03, 8 * (len(blob) - self._size) / max(numbers, 1))

    def _symbols(self, codes: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
        out = []
        for value, code in zip(self._values, codes.tolist(), strict=True):
            step = lowrank.STEPS[code]
            array = value.detach().cpu().numpy()
            out.append(np.rint(array / step).astype(np.int64) if step else np.zeros(array.shape, np.int64))
        return out

    @torch.no_grad()
    def _choose_steps(self) -> None:
        """Steps c / sqrt(F), with c found by bisection; then the nearest that a byte can name."""
        room = 8.0 * (self._size - _NUMBER_HEAD * len(self.plan) - _HEAD)
        shape = (self._fisher + 1e-3 * self._fisher.mean() + 1e-20).rsqrt().numpy().astype(np.float64)
        low, high = -30.0, 30.0
        for _ in range(24):
            middle = (low + high) / 2
            if self._bits(shape * 2**middle) > room:
                low = middle
            else:
                high = middle
        self._steps.copy_(torch.from_numpy(lowrank.STEPS[lowrank.nearest_codes(shape * 2**high)]))

    def _bits(self, steps: NDArray[np.float64]) -> float:
        """Entropy of all numbers, each piece for itself."""
        total = 0.0
        for value, step in zip(self._values, steps.tolist(), strict=True):
            symbols = (value / step).round().clamp(-2000, 2000).flatten().to(torch.int64) + 2000
            counts = torch.bincount(symbols).double()
            counts = counts[counts > 0]
            total += float((counts * (counts.sum() / counts).log2()).sum())
        return total


def plan_of(base: Generator, size: int) -> tuple[int, tuple[lowrank.Piece, ...]]:
    """The rank and the pieces of a compact difference to `base` of at most `size` bytes. Raises InputError where these
    are too few."""
    shapes = [tuple(p.shape) for p in tunable(base)]
    rank = lowrank.rank_for(shapes, size * 8 / NUMBER_BITS)
    plan = lowrank.pieces(shapes, rank)
    least = _NUMBER_HEAD * len(plan) + _HEAD
    if size < least:
        raise InputError(f"this generator's difference takes {least:,} bytes at least: {size:,} are too few.")
    return rank, plan


def _rounded(value: Tensor, step: float) -> Tensor:
    """The value as it travels; it is not rounded yet where the step is 0."""
    return (value / step).round() * step if step else value.detach()


def rate_scales(generator: Generator) -> list[float]:
    """What the learning rate of each tunable tensor is multiplied by (`Generator.rate_scale`)."""
    return [generator.rate_scale(name) for name in generator.tunable_names()]


def _by_scale(weights: list[tuple[Tensor, float]], *, matrices: bool = False) -> list[ParameterGroup]:
    """Tensors grouped by the factor on their rate, in the order in which factors come."""
    groups: dict[float, list[Tensor]] = {}
    for tensor, scale in weights:
        groups.setdefault(scale, []).append(tensor)
    return [ParameterGroup(tensors, scale, matrices) for scale, tensors in groups.items()]


def noise_indices(generator: Generator) -> frozenset[int]:
    """Which of the tunable tensors are noise constants."""
    return frozenset(generator.tunable_names().index(name) for name in generator.noise_names())


def _slots(generator: Generator) -> list[tuple[nn.Module, str]]:
    """Where each tunable weight belongs, as plain attributes from now on: they are computed, not stored."""
    found: list[tuple[nn.Module, str]] = []
    for name in generator.tunable_names():
        path, _, leaf = name.rpartition(".")
        module = generator.get_submodule(path)
        del module._parameters[leaf]
        found.append((module, leaf))
    return found


def weights_for(
    base: Generator, size: int | None, start: bytes = b"", *, noise: NoiseOptions | None = DEFAULT_NOISE
) -> Weights:
    """Compact weights of at most `size` bytes, or all of them (None); `start`: a difference of that kind to go on
    from; `noise`: None where noise constants stay as they are."""
    return FullWeights(base, start, noise) if size is None else CompactWeights(base, size, start, noise)
