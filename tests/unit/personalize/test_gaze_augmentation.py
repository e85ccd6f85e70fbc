"""Frames of a clip that are made to look elsewhere, for tuning to learn from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from factories.faces import face, mesh, mesh_of
from factories.fake_device import crops as noise
from factories.packs import tiny_pack
from mien.face.measures import blinks, gaze_direction
from mien.face.mesh import IRISES, rigid_quad, warp_crop
from mien.personalize.gaze_augmentation import FEWEST, LARGEST, practice
from mien.personalize.joint_refinement import RefineOptions
from mien.personalize.pti import TuneOptions
from mien.runtime.progress import NoProgress
from mien.runtime.stage_cache import NullCache
from tolerances import FLOAT32_GEOMETRY

OPEN = np.zeros(20, bool)


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Twenty frames of one face that looks ahead: crops and landmarks."""
    crop = warp_crop(face(), rigid_quad(mesh()), 256)
    return np.stack([crop] * 20), np.stack([mesh_of(crop)[:, :2]] * 20).astype(np.float32)


def test_irises_move_in_the_picture_as_the_landmarks_say_and_nothing_else_does(
    clip: tuple[np.ndarray, np.ndarray],
) -> None:
    crops, landmarks = clip
    found = practice(crops, landmarks, ~OPEN, seed=1)
    assert len(found.frames) == len(set(found.frames.tolist())) == FEWEST
    irises = [i for iris in IRISES for i in iris]
    rest = np.setdiff1d(np.arange(478), irises)
    assert np.allclose(found.landmarks[:, rest], landmarks[0, rest], atol=FLOAT32_GEOMETRY)
    right = lambda meshes: np.array([gaze_direction(mesh, 256)[0] for mesh in meshes])
    asked = right(found.landmarks) - right(landmarks[:1])
    assert np.ptp(asked) > LARGEST[0] / 2
    seen = np.stack([mesh_of(picture)[:, :2] for picture in found.pictures])
    assert np.corrcoef(right(seen), asked)[0, 1] > 0.9
    changed = np.abs(found.pictures[:].astype(int) - crops[0]).max(-1) > 8
    assert 0 < changed.mean() < 0.02


def test_only_frames_with_open_eyes_are_taken_and_a_seed_says_which(clip: tuple[np.ndarray, np.ndarray]) -> None:
    crops, landmarks = clip
    usable = np.arange(20) < 5
    first, again, other = (practice(crops, landmarks, usable, seed) for seed in (1, 1, 2))
    assert sorted(first.frames.tolist()) == [0, 1, 2, 3, 4]
    assert np.array_equal(first.pictures, again.pictures) and not np.array_equal(first.pictures, other.pictures)
    none = practice(crops, landmarks, OPEN, 1)
    assert none.pictures.shape == (0, 256, 256, 3) and none.landmarks.shape == (0, 478, 2) and len(none.frames) == 0


def test_both_loops_see_the_glances_and_the_stream_is_of_the_clip_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = importlib.import_module("mien.pipeline")
    monkeypatch.setattr(encode, "TuneOptions", lambda seed: TuneOptions(steps=2, batch=2, passes=0, seed=seed))
    monkeypatch.setattr(encode, "RefineOptions", lambda seed: RefineOptions(steps=2, batch=2, passes=0, seed=seed))
    seen: dict[str, tuple[Any, ...]] = {}

    def spied(name: str) -> Callable[..., Any]:
        original = getattr(encode, name)
        return lambda *args: seen.update({name: args}) or original(*args)

    for name in ("tune", "refine"):
        monkeypatch.setattr(encode, name, spied(name))
    pack, crops = tiny_pack(), noise(3)
    stream = encode.encode_crops(crops, Fraction(25), pack, tune_clip=True, aligned=True, seed=0, progress=NoProgress(),
                                 report=encode.EncodeReport(), work=NullCache())  # fmt: skip
    assert len(stream) == 3
    count = len(seen["tune"][2].crops)
    assert count > 3 and np.array_equal(seen["tune"][2].crops[:3], crops.crops)
    frames = practice(crops.crops, crops.landmarks, ~blinks(crops.landmarks), seed=0).frames
    assert count == 3 + len(frames) and len(seen["tune"][3]) == count  # angles
    material, alpha = seen["refine"][1], seen["refine"][4]
    assert len(material.crops) == len(alpha) == count
    moved = (alpha[3:] - alpha[torch.from_numpy(frames)]).abs().amax(0) > 0
    assert moved.tolist() == [c.attribute == "gaze" for c in pack.channels]
