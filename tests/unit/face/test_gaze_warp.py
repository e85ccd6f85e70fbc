"""Frames of a clip that are made to look elsewhere, for tuning to learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from factories.faces import face, mesh, mesh_of
from factories.fake_device import crops as noise
from factories.packs import tiny_pack
from mien.face.measures import gaze_direction
from mien.face.mesh import IRISES, rigid_quad, warp_crop
from mien.options import EncodeOptions
from mien.personalize.gaze_augmentation import LARGEST, augment_gaze
from mien.personalize.options import GazeAugmentationOptions, RefinementOptions, TuningOptions
from mien.personalize.training_data import TrainingData
from mien.pipeline import TrainingSet, encode_track
from mien.runtime.monitor import Monitor
from tolerances import FLOAT32_GEOMETRY

OPEN = np.zeros(20, bool)
OPTIONS = GazeAugmentationOptions()


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Twenty frames of one face that looks ahead: crops and landmarks."""
    crop = warp_crop(face(), rigid_quad(mesh()), 256)
    return np.stack([crop] * 20), np.stack([mesh_of(crop)[:, :2]] * 20).astype(np.float32)


def test_irises_move_in_the_picture_as_the_landmarks_say_and_nothing_else_does(
    clip: tuple[np.ndarray, np.ndarray],
) -> None:
    crops, landmarks = clip
    found = augment_gaze(crops, landmarks, ~OPEN, 1, OPTIONS)
    assert len(found.frames) == len(set(found.frames.tolist())) == OPTIONS.fewest
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
    first, again, other = (augment_gaze(crops, landmarks, usable, seed, OPTIONS) for seed in (1, 1, 2))
    assert sorted(first.frames.tolist()) == [0, 1, 2, 3, 4]
    assert np.array_equal(first.pictures, again.pictures) and not np.array_equal(first.pictures, other.pictures)
    none = augment_gaze(crops, landmarks, OPEN, 1, OPTIONS)
    assert none.pictures.shape == (0, 256, 256, 3) and none.landmarks.shape == (0, 478, 2) and len(none.frames) == 0


def test_tuning_draws_augmented_frames_and_the_stream_is_of_the_clip_alone() -> None:
    pack, faces = tiny_pack(), noise(3)
    options = replace(
        EncodeOptions.mien(), tuning=TuningOptions(steps=2, batch=2, passes=0),
        refinement=RefinementOptions(steps=2, batch=2, passes=0),
    )  # fmt: skip
    measured = faces.angles(pack.flow)
    data = TrainingData.of(pack, faces.crops, faces.landmarks)
    training = TrainingSet.of(data, measured, faces, pack, options)
    assert training is not None
    count = len(training.data.crops)
    assert count == 3 + len(training.augmented.frames) > 3
    assert np.array_equal(training.data.crops[:3], faces.crops[:3])
    assert torch.equal(training.angles, measured[training.frames]) and training.frames[:3].tolist() == [0, 1, 2]
    encoding = encode_track(faces, pack, options, Monitor())
    assert len(encoding.motion) == 3
    plain = TrainingSet.of(data, measured, faces, pack, replace(options, gaze_augmentation=None))
    assert plain is not None and len(plain.data.crops) == 3
    untuned = replace(options, tuning=None, refinement=None)
    assert TrainingSet.of(data, measured, faces, pack, untuned) is None
