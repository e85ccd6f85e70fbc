"""Train the heads of `ffhq-mobile`'s generator: small pictures that are the finished picture averaged down.

A head starts as the blocks that it stands for (`PictureHead.start_from`) and is trained on windows of the features of
the generator, which stays as it is, towards the same window of the finished picture, averaged down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.errors import InputError
from mien.media.images import psnr_from_mse
from mien.nets.generator import Window
from mien.nets.mapping import Mapping
from mien.nets.mobile_stylegan import MobileGenerator
from mien.nets.picture_head import PictureHead
from mien.runtime.files import atomic_path
from mien.train.common import Run

# Features at a window's border that are not compared, since the convolutions there see zeros. At the border of the map
# itself they always do.
MARGIN = 4
HELD_OUT = 16  # people that are never trained on: the first
FIRST_SEED = 1000  # of the first person's latent
EMA_DECAY = 0.998
BEYOND_WEIGHT = 0.1  # of an error where both pictures are outside of [-1, 1] on the same side: it is cut off when shown


@dataclass(frozen=True)
class HeadTraining:
    """How a head is trained. `window`: side of the windows in features; `rate`: of a weight's own spread, a step;
    `at_hand`: people whose features are kept in memory, of whom a step draws. With each step one of them gives way to
    the next person."""

    steps: int = 6000
    batch: int = 4
    window: int = 32
    rate: float = 0.015
    at_hand: int = 800
    seed: int = 0


def random_latent(mapping: Mapping, spread: Tensor, num_ws: int, seed: int) -> Tensor:
    """A latent `[num_ws, D]` as inversions give: truncated, one person's rows or two persons', rows apart at times."""
    random = torch.Generator().manual_seed(seed)
    z, u = torch.randn(2, len(spread), generator=random), torch.rand(6, generator=random).tolist()
    truncation = 1.0 if u[0] < 0.3 else 0.5 + 0.5 * u[1]
    w = mapping.w_mean + (mapping(z) - mapping.w_mean) * truncation
    rows = w[0].expand(num_ws, -1).clone()
    if u[2] < 0.35:
        first = 2 + int(u[3] * (num_ws - 7))
        rows[first:] = w[1]
    if u[4] < 0.35:
        rows += torch.randn(rows.shape, generator=random) * spread * 0.2 * u[5]
    return rows


@torch.no_grad()
def draw_pictures(generator: MobileGenerator, mapping: Mapping, folder: Path, count: int) -> None:
    """Latents and finished pictures at half the resolution, one .npz each; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    spread = mapping(torch.randn(20_000, generator.w_dim, generator=torch.Generator().manual_seed(0))).std(0)
    for number in range(count):
        path = folder / f"{number:05d}.npz"
        if not path.exists():
            w = random_latent(mapping, spread, generator.num_ws, FIRST_SEED + number)
            image = F.avg_pool2d(generator.synthesis(w[None]), 2)[0]
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, w=w.half().numpy(), im=image.half().numpy())


@dataclass(frozen=True)
class _Person:
    features: Tensor  # float16 [C, h, w]
    styles: list[Tensor]
    target: Tensor  # float16 [3, 2h, 2w]


class _People:
    """The features, styles and targets of the drawn people for one head, in half floats; of those that are trained on,
    the last `at_hand` are kept."""

    def __init__(self, generator: MobileGenerator, head: PictureHead, paths: list[Path], at_hand: int) -> None:
        self.generator, self.head, self.paths, self.at_hand = generator, head, paths, at_hand
        self.known: dict[int, _Person] = {}

    def draw(self, random: np.random.Generator, step: int, count: int) -> list[_Person]:
        """Random people out of those at hand at `step`."""
        trained = len(self.paths) - HELD_OUT
        at_hand = min(self.at_hand, trained)
        for number in [n for n in self.known if n >= HELD_OUT and (n - HELD_OUT - step) % trained >= at_hand]:
            del self.known[number]
        return [self[HELD_OUT + int(step + n) % trained] for n in random.integers(0, at_hand, count)]

    @torch.no_grad()
    def __getitem__(self, number: int) -> _Person:
        if number not in self.known:
            with np.load(self.paths[number]) as file:
                w, image = (torch.from_numpy(file[name]).float()[None] for name in ("w", "im"))
            styles = self.generator.styles(w)
            x = self.generator.features(styles, self.head.block)
            target = F.interpolate(image, (2 * x.shape[-1],) * 2, mode="area")
            self.known[number] = _Person(x[0].half(), styles, target[0].half())
        return self.known[number]


def train(
    generator: MobileGenerator, size: int, data: Path, out: Path, options: HeadTraining | None = None
) -> PictureHead:
    """Train the head for pictures of `size` on the people in `data`; resumes from `out`. Raises InputError where the
    generator has no such head."""
    if str(size) not in generator.heads:
        raise InputError(f"there is no head for pictures of {size}: there are {', '.join(generator.heads)}.")
    options = options or HeadTraining()
    run = Run(out)
    head = generator.heads[str(size)]
    assert isinstance(head, PictureHead)
    head.start_from(generator.blocks)
    head.requires_grad_(True)
    groups = [
        {"params": [p], "spread": 2e-3 / 0.15 if "noise" in name else max(float(p.detach().std()), 0.02)}
        for name, p in head.named_parameters()
    ]
    optimiser = torch.optim.Adam(groups, lr=options.rate, betas=(0.9, 0.98))
    average = {name: value.clone() for name, value in head.state_dict().items()}
    first = 0
    if (kept := run.load()) is not None:
        head.load_state_dict(kept["head"])
        optimiser.load_state_dict(kept["optimiser"])
        average, first = kept["ema"], kept["step"]
    people = _People(generator, head, sorted(data.glob("[0-9]*.npz")), options.at_hand)
    for step in range(first, options.steps):
        random = np.random.default_rng((options.seed, step))
        share = 0.01 + 0.495 * (1 + math.cos(math.pi * step / options.steps))
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1, step / 100) * share * group["spread"]
        loss = _loss(head, people.draw(random, step, options.batch), random, options)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        keep = min(EMA_DECAY, (2 + step) / (11 + step))
        with torch.no_grad():
            for name, value in head.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        if (step + 1) % 100 == 0 or step + 1 == options.steps:
            state = {name: value.clone() for name, value in head.state_dict().items()}
            head.load_state_dict(average)
            values = [psnr(head, people[i]) for i in range(HELD_OUT)]
            head.load_state_dict(state)
            run.save(head=state, optimiser=optimiser.state_dict(), ema=average, step=step + 1)
            run.log(step + 1, loss=float(loss.detach()), psnr=np.mean(values), least=min(values))
    head.load_state_dict(average)
    head.requires_grad_(False)
    return head


def _random_window(random: np.random.Generator, side: int, window: int) -> Window:
    """A window of a map of that side. Those that would reach over its border by up to half lie at it, so that the border
    is seen about as often as what is within."""
    top, left = np.clip(random.integers(-window // 2, side - window // 2 + 1, 2), 0, side - window).tolist()
    return Window(top, left, top + window, left + window)


def _loss(head: PictureHead, people: list[_Person], random: np.random.Generator, options: HeadTraining) -> Tensor:
    total = torch.zeros(())
    for person in people:
        window = _random_window(random, person.features.shape[-1], options.window)
        made = head(window.cut(person.features)[None].float(), person.styles, window)[0]
        target = window.scaled(up=2).cut(person.target).float()
        beyond = (target.abs() > 1) & (made * target.sign() > 1)
        error = (made - target) * torch.where(beyond, BEYOND_WEIGHT, 1.0)
        rows, columns = (
            slice(2 * MARGIN if first else 0, -2 * MARGIN if last < person.features.shape[-1] else None)
            for first, last in ((window.top, window.bottom), (window.left, window.right))
        )
        squared = error[:, rows, columns].square().mean()
        # Beside the mean squared error its logarithm, so that pictures that are nearly right count too.
        total = total + squared.clamp(max=0.3) + 0.005 * (squared + 2e-4).log()
    return total / len(people)


@torch.no_grad()
def psnr(head: PictureHead, person: _Person) -> float:
    """PSNR in dB of a person's small picture, both cut off at [-1, 1]."""
    made = head(person.features[None].float(), person.styles)[0].clamp(-1, 1)
    return float(psnr_from_mse(float((made - person.target.float().clamp(-1, 1)).square().mean()), peak=2))
