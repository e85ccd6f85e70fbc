"""The re-fit of each frame and the landmark targets it goes by: a tiny random pack, seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from factories.faces import areas
from factories.packs import tiny_pack
from mien.face.measures import POINTS, face_measures
from mien.method.avatar import Avatar
from mien.method.landmark_targets import (
    EXPRESSION,
    HEAD,
    LandmarkTargetOptions,
    LandmarkTargets,
    measures_of_mesh,
    targets_from_frames,
    targets_from_inversions,
)
from mien.method.losses import AttributeObjective, AttributeWeights
from mien.nets.face_parser import FaceParser
from mien.packs.pack import Pack
from mien.personalize.refit import RefitOptions, RefitResult, refit_to_frames
from tolerances import CONVERGED

FRAMES = 20
DEGREES_PER_UNIT = RefitOptions().angle_unit_deg


class Told(FaceParser):
    """A parser that reads landmarks off the first row of the picture: whatever a test wrote there."""

    def features(self, image: Tensor) -> list[Tensor]:
        return [image[:, :2, : len(POINTS), 0]]

    def landmarks(self, maps: list[Tensor]) -> Tensor:
        return maps[-1].transpose(1, 2)


def written(points: Tensor) -> Tensor:
    images = torch.zeros(len(points), 3, len(POINTS), 4)
    images[:, :2, :, 0] = points.transpose(1, 2)
    return images


def faces(seed: int = 0) -> np.ndarray:
    """Landmarks `[T, 478, 2]` of a face whose mesh points wander, in a crop of 256 pixels."""
    random = np.random.RandomState(seed)
    return random.uniform(60, 200, (1, 478, 2)) + random.normal(0, 2, (FRAMES, 478, 2))


def test_a_parser_is_trusted_as_far_as_it_agrees_with_the_mesh() -> None:
    landmarks = faces()
    mesh = measures_of_mesh(landmarks, 256)
    points = torch.from_numpy(landmarks[:, list(POINTS)] / 256).float()
    agrees = targets_from_frames(Told(8), written(points), mesh)
    assert agrees is not None
    torch.testing.assert_close(agrees.target, mesh)
    usual = torch.tensor([1.0, 1, 0.5, 2, 2, 1, 1, 1, 1, 1])
    torch.testing.assert_close(agrees.weight[:, :7], usual[:7].expand(FRAMES, 7), atol=1e-3, rtol=1e-3)
    backwards = targets_from_frames(Told(8), written(points.flip(0)), mesh.flip(0) * torch.tensor([-1.0] + [1.0] * 9))
    assert backwards is not None
    assert float(backwards.weight[:, 0].max()) == 0.0, "one that reads the contrary is not heard at all"
    assert float(backwards.weight[:, 1].min()) > 0.99


def test_gaze_of_shut_eyes_is_not_asked_for() -> None:
    landmarks = faces()
    landmarks[5, [159, 386]] = landmarks[5, [145, 374]]
    mesh = measures_of_mesh(landmarks, 256)
    read = targets_from_frames(Told(8), written(torch.from_numpy(landmarks[:, list(POINTS)] / 256).float()), mesh)
    assert read is not None
    assert float(read.weight[5, 7]) == 0.0 and float(read.weight[6, 7]) > 0.9
    assert float(read.weight[5, 3]) > 1.9


def test_inversions_are_asked_for_the_meshs_changes() -> None:
    landmarks = faces()
    mesh = measures_of_mesh(landmarks, 256)
    still = torch.from_numpy(landmarks[:1, list(POINTS)] / 256).float().expand(FRAMES, -1, -1)  # S_t that do not follow
    real = LandmarkTargets(mesh, torch.ones(FRAMES, 10))
    read = targets_from_inversions(Told(8), written(still), mesh, real)
    assert read is not None
    torch.testing.assert_close(read.target, face_measures(still) + mesh - mesh.mean(0))
    assert targets_from_inversions(Told(8), written(still), mesh, None) is None
    assert not read.select(EXPRESSION).weight[:, 8:].any() and not read.select(HEAD).weight[:, :8].any()


def test_short_clips_and_packs_without_landmarks_go_without() -> None:
    mesh = measures_of_mesh(faces(), 256)
    pictures = torch.zeros(FRAMES, 3, 64, 64)
    assert targets_from_frames(None, pictures, mesh) is None
    assert (
        targets_from_frames(
            FaceParser(8), pictures[: LandmarkTargetOptions().fewest - 1], mesh[: LandmarkTargetOptions().fewest - 1]
        )
        is None
    )


@pytest.fixture(scope="module")
def shaken() -> tuple[Pack, Tensor, Tensor, Tensor, Tensor]:
    """Angles, alphas and pictures of them, alike as neighbouring frames are, and the same numbers shaken."""
    pack = tiny_pack()
    random = torch.Generator().manual_seed(4)
    scale = torch.tensor([c.scale for c in pack.channels])
    draw = lambda *size: torch.randn(*size, generator=random)
    angles = 4 * (draw(1, 2) + 0.2 * draw(FRAMES, 2))
    alpha = (draw(1, 32) + 0.2 * draw(FRAMES, 32)) * scale
    avatar = Avatar(pack.generator, pack.flow, pack.channels, pack.people[0])
    pictures = pack.generator.synthesis_from_styles(avatar.styles(angles, alpha), 64)
    off = torch.randn(FRAMES, 34, generator=random) * 0.3
    return pack, angles, alpha, pictures, off


def polished(shaken: tuple[Pack, Tensor, Tensor, Tensor, Tensor], fixed: Tensor, blink: Tensor) -> RefitResult:
    pack, angles, alpha, pictures, off = shaken
    scale = torch.tensor([c.scale for c in pack.channels])
    return refit_to_frames(
        Avatar(pack.generator, pack.flow, pack.channels, pack.people[0]), pack.perceptual,
        angles + DEGREES_PER_UNIT * off[:, :2], alpha + scale * off[:, 2:], pictures, areas(FRAMES), fixed, blink, None,
        RefitOptions(),
    )  # fmt: skip


def test_shaken_numbers_are_put_back(shaken: tuple[Pack, Tensor, Tensor, Tensor, Tensor]) -> None:
    none = torch.zeros(FRAMES, dtype=torch.bool)
    found = polished(shaken, none, none)
    assert float(found.loss.mean()) < 0.7 * float(found.initial_loss.mean())
    torch.testing.assert_close(found.alpha, found.alpha.half().float())


def test_covered_frames_and_gaze_at_blinks_stay(shaken: tuple[Pack, Tensor, Tensor, Tensor, Tensor]) -> None:
    pack, angles, alpha, _, off = shaken
    scale = torch.tensor([c.scale for c in pack.channels])
    fixed, blink = torch.zeros(FRAMES, dtype=torch.bool), torch.zeros(FRAMES, dtype=torch.bool)
    fixed[3], blink[7] = True, True
    found = polished(shaken, fixed, blink)
    start, turn = (alpha + scale * off[:, 2:]).half().float(), (angles + DEGREES_PER_UNIT * off[:, :2]).half().float()
    torch.testing.assert_close(found.alpha[3], start[3], atol=CONVERGED, rtol=CONVERGED)
    torch.testing.assert_close(found.angles[3], turn[3], atol=CONVERGED, rtol=CONVERGED)
    gaze = torch.tensor([c.attribute == "gaze" for c in pack.channels])
    torch.testing.assert_close(found.alpha[7, gaze], start[7, gaze], atol=CONVERGED, rtol=CONVERGED)
    assert float((found.alpha[7, ~gaze] - start[7, ~gaze]).abs().max()) > 0.01


def test_measures_are_part_of_the_loss() -> None:
    """A landmark target pulls where the pictures already agree, and only as much as it weighs."""
    pack = tiny_pack()
    images = torch.rand(FRAMES, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        own = face_measures(pack.parser(images)[1])
    weight = torch.zeros(FRAMES, 10)
    weight[:, 2] = 3.0
    weights = replace(AttributeWeights(), measures=2.0)

    def value(off: float) -> Tensor:
        targets = LandmarkTargets(own + off, weight)
        objective = AttributeObjective(pack.perceptual, images, areas(FRAMES), weights, targets)
        return objective.residual(images).square().sum(1)

    torch.testing.assert_close(value(0.003), torch.full((FRAMES,), 2.0 * (3.0 * 0.003) ** 2), rtol=2e-2, atol=1e-8)
    assert float(value(0.4).mean() / value(0.2).mean()) == pytest.approx(2, abs=0.2), "far off it pulls no harder"
    plain = AttributeObjective(pack.perceptual, images, areas(FRAMES), weights).residual(images)
    assert float(plain.abs().max()) == 0.0
