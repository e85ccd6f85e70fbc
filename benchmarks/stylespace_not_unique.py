"""Eq. 6 as an experiment: StyleSpace is not unique.

    python benchmarks/stylespace_not_unique.py [--pack mini] [--people 3] [--steps 150] [-o OUT.json]

For a person of the pack and offsets alpha on the channels V, alpha_inv is sought so that the picture is the one without
any offset again (Eq. 6), by Adam from a random start: once on all channels of the convolutions, once on V alone. Were the
representation unique, alpha + alpha_inv would be 0. Printed: how much of the picture's change is undone (dB), and what is
left of alpha, ||alpha + alpha_inv|| / ||alpha||, in units of each channel's scale; 1 is as far from 0 as alpha was.

Then the second claim, that a gradient splits its credit: ranks of V's channels by the gradient of the loss, and by a
forward perturbation of each, between two frames that differ in alpha only (rank correlation with the alpha that was
really put in).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mien.packs.pack import Pack
from mien.runtime.files import write_text


def ranks(x: Tensor) -> np.ndarray:
    return x.argsort().argsort().numpy().astype(float)


class Picture:
    """The pictures of one person as a function of offsets on all convolution channels `[N, K]`, in units of scale."""

    def __init__(self, pack: Pack, person: int, resolution: int) -> None:
        self.generator, self.resolution = pack.generator, resolution
        self.layers = [i for i, x in enumerate(pack.generator.layers) if not x.to_rgb]
        with torch.no_grad():
            every = pack.generator.styles(pack.people)
            self.styles = [s[person : person + 1] for s in every]
        self.scales = [every[i].std(0).clamp_min(1e-4) for i in self.layers]
        first = np.cumsum([0] + [len(s) for s in self.scales])
        place = {layer: int(at) for layer, at in zip(self.layers, first[:-1], strict=True)}
        self.size = int(first[-1])
        self.v = torch.tensor([place[c.layer] + c.index for c in pack.channels])

    def __call__(self, offset: Tensor) -> Tensor:
        styles = [s.expand(len(offset), -1) for s in self.styles]
        parts = offset.split([len(s) for s in self.scales], dim=1)
        for layer, part, scale in zip(self.layers, parts, self.scales, strict=True):
            styles[layer] = styles[layer] + part * scale
        return self.generator.synthesis_from_styles(styles, self.resolution)


def undo(picture: Picture, alpha: Tensor, free: Tensor, steps: int) -> dict[str, float]:
    """Eq. 6 on the channels `free`, from a small random start."""
    with torch.no_grad():
        wanted = picture(torch.zeros_like(alpha))
        before = (picture(alpha) - wanted).square().mean()
    found = (0.1 * torch.randn(1, len(free), generator=torch.Generator().manual_seed(1))).requires_grad_(True)
    optimiser = torch.optim.Adam([found], lr=0.05)
    for _ in range(steps):
        loss = (picture(alpha.index_add(1, free, found)) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    whole = torch.zeros_like(alpha).index_add(1, free, found.detach())
    return {
        "undone_db": float(10 * torch.log10(before / loss.detach().clamp_min(1e-12))),
        "left": float((alpha + whole).norm() / alpha.norm()),
        "left_on_v": float((alpha + whole)[:, picture.v].norm() / alpha.norm()),
    }


def credit(picture: Picture, alpha: Tensor) -> dict[str, float]:
    """Rank correlation of what each channel of V really did with the gradient's and with the forward answer."""
    count = len(picture.v)
    eye = torch.zeros(count, picture.size)
    eye[torch.arange(count), picture.v] = 1
    with torch.no_grad():
        moved, still = picture(alpha), picture(torch.zeros_like(alpha))
        own = picture(alpha[:, picture.v].T * eye)  # each channel's own part of alpha, alone
        truth = (own - still).square().mean((1, 2, 3))
        forward = (picture(eye) - still).square().mean((1, 2, 3)).sqrt()
    offset = torch.zeros_like(alpha).requires_grad_(True)
    (gradient,) = torch.autograd.grad((picture(offset) - moved).square().mean(), offset)
    size = alpha[0, picture.v].abs()
    r = lambda a: float(np.corrcoef(ranks(a), ranks(truth))[0, 1])
    return {"gradient": r((gradient[0, picture.v] * size).abs()), "forward": r(forward * size)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    pack = Pack.load(args.pack)
    results: list[dict[str, Any]] = []
    print(
        "| person | free channels | change undone, dB | left of alpha | left of alpha on V |\n| --- | --- | --- | --- | --- |"
    )
    for person in range(args.people):
        picture = Picture(pack, person, args.resolution)
        alpha = torch.zeros(1, picture.size)
        alpha[0, picture.v] = torch.randn(len(picture.v), generator=torch.Generator().manual_seed(person))
        every = torch.arange(picture.size)
        for name, free in (("all", every), ("V", picture.v), ("all but V", every[~torch.isin(every, picture.v)])):
            found = undo(picture, alpha, free, args.steps)
            results.append({"person": person, "free": name, **found})
            print(f"| {person} | {name} ({len(free)}) | {found['undone_db']:.1f} | {found['left']:.2f} "
                  f"| {found['left_on_v']:.2f} |", flush=True)  # fmt: skip
        results.append({"person": person, **credit(picture, alpha)})
        print(f"| {person} | rank correlation with what each channel did | gradient {results[-1]['gradient']:.2f} "
              f"| forward {results[-1]['forward']:.2f} | |", flush=True)  # fmt: skip
    if args.out:
        write_text(args.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
