"""Choose the 32 channels V of `ffhq-mobile` by index sensitivity over all of StyleSpace (the paper, Sec. 3.4, Eq. 5).

Two passes, since Eq. 5 of all channels on many people takes days: one person and one step for all channels (`coarse`),
ten people and two steps (+-3 standard deviations) for those that this leaves (`fine`). A perturbed picture is drawn from
the block of its channel on; what comes before is the same.

Eq. 5 does not tell a motion from a look: a beard is as particular to the jaw as a dropping jaw. Beside it, what the
channel does to the landmarks is measured, and a channel is taken only where landmarks of its attribute move.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.face.masks import region_labels
from mien.face.measures import expression_measures, pose_measures
from mien.face.mesh import FaceMesh
from mien.media.images import to_bytes
from mien.nets.face_parser import FaceParser
from mien.nets.generator import downsample_to
from mien.nets.mapping import Mapping
from mien.nets.mobile_stylegan import MobileGenerator
from mien.nets.perceptual import normalised
from mien.nets.stylespace import Channel
from mien.packs.pack import Pack
from mien.runtime.files import atomic_path, write_text

SIZE = 128  # pixels a side of the pictures that are compared
ATTRIBUTES = ("mouth", "eyes", "brows", "gaze", "jaw")
COARSE_DELTAS, FINE_DELTAS = (0.0, 3.0), (-3.0, 0.0, 3.0)  # standard deviations of each channel over people
FINE_PEOPLE, TRUNCATION = 10, 0.7
MEASURES = 10  # eight of expression, yaw and pitch


@dataclass(frozen=True)
class Motion:
    """What makes a channel a motion of an attribute and not a look: over the whole step one of `measures` (see
    `expression_measures`; distances over that of the eyes' outer corners, gaze in widths of an eye) moves by `least`,
    and by `ratio` times Gamma of the whole face."""

    measures: tuple[int, ...]
    least: float
    ratio: float


MOTIONS = {
    "mouth": Motion((0, 1, 2), 0.018, 1.5),
    "eyes": Motion((3, 4), 0.006, 1.5),
    "brows": Motion((5, 6), 0.01, 2.0),
    "gaze": Motion((7,), 0.02, 8.0),
    "jaw": Motion((0, 1, 2), 0.015, 1.5),
}


@dataclass(frozen=True)
class Person:
    """A person to perturb: `styles` with N = 1, the `masks` [F, S, S] of `ATTRIBUTES`, binary."""

    styles: list[Tensor]
    masks: Tensor


@dataclass(frozen=True)
class Measured:
    """Eq. 5 of K channels on one person, per standard deviation: `inside` [K, F], `whole` [K]; `moved` [K, D, 10]: how
    far the measures moved at each delta; `area` [F]: the share of the picture in each mask."""

    inside: NDArray[np.float64]
    whole: NDArray[np.float64]
    moved: NDArray[np.float32]
    area: NDArray[np.float64]


def spreads(generator: MobileGenerator, mapping: Mapping, count: int = 4000) -> list[Tensor]:
    """The standard deviation of every channel over people of W, `[C_l]` a layer."""
    with torch.no_grad():
        w = mapping(torch.randn(count, generator.w_dim, generator=torch.Generator().manual_seed(3)))
        return [style.std(0) for style in generator.styles(w[:, None].expand(-1, generator.num_ws, -1))]


@torch.no_grad()
def draw_people(generator: MobileGenerator, mapping: Mapping, count: int, seed: int = 77) -> list[Person]:
    """People with a face that the mesh finds, at a truncation of 0.7."""
    mesh = FaceMesh(min_confidence=0.2)
    people: list[Person] = []
    while len(people) < count:
        z = torch.randn(1, generator.w_dim, generator=torch.Generator().manual_seed(seed))
        seed += 1
        w = mapping.w_mean + (mapping(z) - mapping.w_mean) * TRUNCATION
        styles = generator.styles(w[:, None].expand(-1, generator.num_ws, -1))
        (image,) = to_bytes(generator.picture(styles, SIZE))
        found = mesh(cv2.resize(image, (2 * SIZE, 2 * SIZE), interpolation=cv2.INTER_CUBIC))
        if found:
            people.append(Person(styles, attribute_masks(found[0][:, :2] / 2)))
    return people


def attribute_masks(points: NDArray[np.float64]) -> Tensor:
    """Binary masks `[F, S, S]` of `ATTRIBUTES` for mesh points `[478, 2]` in pixels of a picture of `SIZE`."""
    label = region_labels(points, SIZE, 1.0)

    def grown(area: NDArray[np.bool_], by: int = 7) -> NDArray[np.uint8]:
        return cv2.dilate(area.astype(np.uint8), np.ones((by, by), np.uint8))  # type: ignore[return-value]

    mouth, eyes = grown(np.isin(label, (6, 7))), grown(np.isin(label, (3, 4)))
    below_nose = np.arange(SIZE)[:, None] > points[2, 1]
    jaw = (label == 1) & below_nose & (mouth == 0)
    masks = [mouth, eyes, grown(label == 2) * (1 - eyes), label == 4, jaw]
    return torch.from_numpy(np.stack(masks).astype(np.float32))


@torch.no_grad()
def sensitivity(
    generator: MobileGenerator,
    parser: FaceParser,
    person: Person,
    channels: Sequence[tuple[int, int]],
    spread: list[Tensor],
    deltas: Sequence[float],
    *,
    masked_images: bool,
) -> Measured:
    """Eq. 5 for one person. `masked_images`: mask pictures, as it is written; else the perceptual network's maps."""
    drawn = generator.drawn_resolution(SIZE)
    head = generator.config.head_blocks[drawn]
    count = len(channels)
    inside, whole = np.zeros((count, len(ATTRIBUTES))), np.zeros(count)
    moved = np.zeros((count, len(deltas), MEASURES), np.float32)
    rest = generator.picture(person.styles, SIZE)
    rest_maps, rest_measures = _maps(parser, rest, person.masks, masked_images), _measures(parser, rest)
    before: tuple[int, Tensor] | None = None
    for i in sorted(range(count), key=lambda n: channels[n]):
        layer, index = channels[i]
        block = min((layer - 1) // 3 if layer else -1, head + 1)  # the first block that the channel changes
        if block >= 0 and (before is None or before[0] != block - 1):
            before = (block - 1, generator.features(person.styles, block - 1))
        previous = rest_maps
        for d, delta in enumerate(deltas):
            maps = rest_maps
            if delta:
                styles = list(person.styles)
                styles[layer] = styles[layer].clone()
                styles[layer][0, index] += delta * spread[layer][index]
                x = generator.features(styles, head, before if block >= 0 else None)
                image = downsample_to(generator.heads[str(drawn)](x, styles), SIZE)
                maps, moved[i, d] = (
                    _maps(parser, image, person.masks, masked_images),
                    _measures(parser, image) - rest_measures,
                )
            if d:
                step = abs(delta - deltas[d - 1]) * len(deltas)
                whole[i] += _distance(maps[0], previous[0]) / step
                inside[i] += [
                    _masked_distance(maps, previous, person.masks, f, masked_images) / step
                    for f in range(len(ATTRIBUTES))
                ]
            previous = maps
    return Measured(inside, whole, moved, person.masks.mean((1, 2)).double().numpy())


def _maps(parser: FaceParser, image: Tensor, masks: Tensor, masked: bool) -> list[list[Tensor]]:
    """Maps of the whole picture and, where pictures are masked, of each mask's."""
    pictures = [image, *(image * mask for mask in masks)] if masked else [image]
    return [normalised(parser.features(picture)) for picture in pictures]


def _measures(parser: FaceParser, image: Tensor) -> NDArray[np.float32]:
    points = parser.read_landmarks(image)
    return torch.cat([expression_measures(points), pose_measures(points)], 1)[0].numpy()


def _distance(a: list[Tensor], b: list[Tensor]) -> float:
    return float(sum((x - y).square().sum(1).mean() for x, y in zip(a, b, strict=True)))


def _masked_distance(a: list[list[Tensor]], b: list[list[Tensor]], masks: Tensor, f: int, masked: bool) -> float:
    if masked:
        return _distance(a[1 + f], b[1 + f])
    total = 0.0
    for x, y in zip(a[0], b[0], strict=True):
        weight = F.interpolate(masks[f][None, None], x.shape[-2:], mode="area")[0]
        total += float(((x - y).square().sum(1) * weight).mean())
    return total


def run(generator: MobileGenerator, mapping: Mapping, judges: Pack, out: Path) -> list[Channel]:
    """Both passes and the choice; each person's figures are kept in `out`, so that a stopped run goes on."""
    out.mkdir(parents=True, exist_ok=True)
    parser = judges.parser
    assert isinstance(parser, FaceParser)
    spread = spreads(generator, mapping)
    everything = [(layer, index) for layer, widths in enumerate(spread) for index in range(len(widths))]
    people = draw_people(generator, mapping, FINE_PEOPLE)
    coarse = _kept(out / "coarse.npz", lambda: sensitivity(
        generator, parser, people[0], everything, spread, COARSE_DELTAS, masked_images=False))  # fmt: skip
    candidates = [everything[i] for i in shortlist(coarse)]
    fine = [
        _kept(out / f"fine_{number}.npz", lambda person=person: sensitivity(
            generator, parser, person, candidates, spread, FINE_DELTAS, masked_images=True))  # type: ignore[misc]
        for number, person in enumerate(people)
    ]  # fmt: skip
    table = mean(fine)
    chosen = [
        Channel(*candidates[i], name, float(spread[candidates[i][0]][candidates[i][1]]),
                float(table.inside[i, ATTRIBUTES.index(name)]), float(table.whole[i]))
        for i, name in choose(table)
    ]  # fmt: skip
    write_text(out / "channels.json", json.dumps({"channels": [asdict(channel) for channel in chosen]}, indent=1))
    return chosen


def _kept(path: Path, make: Callable[[], Measured]) -> Measured:
    """What `make` measures, read from `path` where it was measured before."""
    if not path.is_file():
        found = make()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **asdict(found))
    with np.load(path) as file:
        return Measured(*(file[name] for name in ("inside", "whole", "moved", "area")))


def mean(people: Sequence[Measured]) -> Measured:
    """The mean over people."""
    return Measured(
        *(np.mean([getattr(one, name) for one in people], 0) for name in ("inside", "whole", "moved", "area"))
    )


SHORTLIST = 60  # channels of the coarse pass that the fine pass takes for each attribute


def shortlist(coarse: Measured) -> list[int]:
    """The rows of the coarse table that go into the fine pass: for each attribute, the channels with the most effect
    inside its mask among those whose effect is mostly there (Gamma_f large, Gamma small), and those that move its
    measures most for what they change elsewhere."""
    kept: set[int] = set()
    share = coarse.inside / np.maximum(coarse.whole[:, None], 1e-12)
    for f, name in enumerate(ATTRIBUTES):
        particular = share[:, f] >= np.quantile(share[:, f], 0.9)
        by_gamma = np.argsort(-coarse.inside[:, f] * particular)[:SHORTLIST]
        moves = np.abs(coarse.moved[:, -1][:, list(MOTIONS[name].measures)]).max(1)
        by_motion = np.argsort(-moves * share[:, f])[: SHORTLIST // 2]
        kept |= set(by_gamma.tolist()) | set(by_motion.tolist())
    return sorted(kept)


# How many of the 32 each attribute gets; the paper's split is in its supplement, this one is ours.
COUNTS = {"gaze": 4, "eyes": 5, "brows": 6, "mouth": 14, "jaw": 3}


def choose(table: Measured, counts: dict[str, int] = COUNTS) -> list[tuple[int, str]]:
    """Rank and threshold (Sec. 3.4): rows of the table and their attributes.

    For each attribute, in the order of `counts`, the channels that are motions of it (`MOTIONS`), by the product of
    Gamma_f and its share of Gamma: a high Gamma_f and a small Gamma elsewhere. Where too few are motions, the others
    follow in the same order.
    """
    taken: set[int] = set()
    chosen: list[tuple[int, str]] = []
    whole = np.maximum(table.whole, 1e-12)
    for name, count in counts.items():
        f, motion = ATTRIBUTES.index(name), MOTIONS[name]
        reach = np.abs(table.moved[:, -1] - table.moved[:, 0])[:, list(motion.measures)].max(1)
        moves = (reach >= motion.least) & (reach >= motion.ratio * whole)
        score = table.inside[:, f] ** 2 / whole * np.where(moves, 1.0, 1e-6)
        rows = [int(i) for i in np.argsort(-score) if int(i) not in taken][:count]
        taken.update(rows)
        chosen += [(row, name) for row in rows]
    return chosen
