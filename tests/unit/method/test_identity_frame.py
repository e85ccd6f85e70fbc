"""Eq. 1 and what follows frames that do not show the face."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mien.method import stage3_identity
from mien.method.frame_quality import outliers
from mien.method.stage3_identity import select_identity
from mien.personalize.sampling import of_seen


class Faces(SimpleNamespace):
    """As many of a track's facts as Eq. 1 asks for."""

    def __len__(self) -> int:
        return len(self.lost)


def test_the_identity_is_of_a_frame_with_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """The face looks to the left, is lost, and comes back to the right: only the lost frames pass the front."""
    angles = torch.tensor([[-12.0, 0]] * 5 + [[0.0, 0]] * 10 + [[11.0, 0]] * 5)
    lost = (np.arange(20) >= 5) & (np.arange(20) < 15)
    faces = Faces(angles=lambda flow: angles, usable=~lost, lost=lost, images=lambda size, device: torch.zeros(20, 1))
    inversion = SimpleNamespace(
        generator=SimpleNamespace(resolution=64), images=lambda size: torch.zeros(20, 1), w_plus=torch.zeros(20, 2, 4)
    )
    monkeypatch.setattr(stage3_identity, "similarities", lambda network, a, b: torch.ones(len(a)))
    monkeypatch.setattr(stage3_identity, "frontal", lambda flow, w_plus, at: w_plus)
    found = select_identity(None, None, faces, inversion, 64)  # type: ignore[arg-type]
    assert not lost[found.frame]


def test_frames_without_a_face_are_not_learned_from() -> None:
    even = np.full(4, 0.25)
    assert of_seen(even, np.array([False, True, False, False])).tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert of_seen(even, np.zeros(4, bool)) is even and of_seen(even, np.ones(4, bool)) is even


def test_of_two_frames_the_worse_is_no_outlier_by_that_alone() -> None:
    assert not outliers(torch.tensor([1.0, 2.0])).any()
    assert outliers(torch.tensor([1.0, 1.1, 0.9, 1.0, 9.0])).tolist() == [False] * 4 + [True]
