"""Independent judges: dlib and EfficientNet-Lite0 (the extra `judges`).

The mesh, the pack's own networks and the pixels that other metrics are taken with are also what encoding fits, and a
fit may serve them more than the eye. These models enter nowhere else. dlib's judge independently; EfficientNet-Lite0 is
of one family with Lite1, whose features tuning compares, and both were trained on the same images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mien.evaluate.frames import Frame
from mien.evaluate.metrics import dlib_face, efficientnet
from mien.evaluate.metrics.dlib_face import DlibFace
from mien.evaluate.metrics.efficientnet import Features, feature_distance
from mien.evaluate.metrics.facemesh import pearson
from mien.evaluate.registry import NEEDS, NO_FACE, NO_MOVEMENT
from mien.evaluate.result import Evaluation

Array = NDArray[np.float64]

BATCH = 16  # frames at once through EfficientNet
IDENTITY_FRAMES = 16  # at most, spread over the clip: dlib's network takes 0.1 s a face on one core
LEAST_GAZE = 0.03  # standard deviation of the reference's gaze, under which it is the measure's own noise
PORTRAIT_FRAMES = 4  # of those that say whose face it should be


@dataclass(frozen=True)
class JudgeFigures:
    """What independent models say of an output beside its reference.

    `correlations`: Pearson's r over time by `dlib_face.MEASURES`. `identity_distance`: Euclidean, of dlib's 128
    numbers, mean over up to `IDENTITY_FRAMES` frames. `feature_distance`: of EfficientNet-Lite0, mean over frames.
    `faces`: frames in which dlib finds a face in both. `series` [T]: the measures of the output as `dlib_...` and of
    the reference as `reference_dlib_...`, NaN without a face, and `efficientnet_distance`. `missing`: by the metrics'
    keys, for what is None or not in `correlations`, what it needs.
    """

    correlations: dict[str, float] = field(default_factory=dict)
    identity_distance: float | None = None
    feature_distance: float | None = None
    faces: int = 0
    series: dict[str, Array] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def put_into(self, result: Evaluation) -> None:
        """Put all figures into a result, under names that say by which model they are."""
        values: dict[str, float | None] = {f"dlib_{name}": r for name, r in self.correlations.items()}
        values |= {"dlib_identity": self.identity_distance, "efficientnet_distance": self.feature_distance}
        for key, value in values.items():
            if value is not None:
                result.put(key, value, "")
        for key, needs in self.missing.items():
            result.put(key, None, needs)
        result.series |= self.series


@dataclass(frozen=True)
class JudgeModels:
    """The independent models; one that is None is not asked."""

    dlib: DlibFace | None = None
    features: Features | None = None

    @classmethod
    def installed(cls) -> JudgeModels:
        """Load those whose packages are installed, once in a process."""
        return _installed()


@cache
def _installed() -> JudgeModels:
    return JudgeModels(
        DlibFace() if dlib_face.model_folder() is not None else None,
        efficientnet.load_features() if efficientnet.weights_file() is not None else None,
    )


def judge(
    reference: Iterable[Frame],
    output: Iterable[Frame],
    portrait: NDArray[np.uint8] | None = None,
    models: JudgeModels | None = None,
) -> JudgeFigures:
    """Judge a clip's frames uint8 [H, W, 3] RGB against its reference's, frame by frame, up to the end of the shorter.

    Faces are found best where they fill a third of the frame or more. `portrait`: crops [N, H, W, 3] of whose face the
    output should have; identity is compared with them then, and features are not compared. `models`: those that are
    installed if not given; what the others would say is in `missing`.
    """
    judging = Judging(models or JudgeModels.installed(), portrait)
    for a, b in zip(reference, output, strict=False):
        judging.add(a, b)
    return judging.figures()


class Judging:
    """Accumulates the figures frame by frame; `portrait` as in `judge`."""

    def __init__(self, models: JudgeModels, portrait: NDArray[np.uint8] | None = None) -> None:
        self._dlib, self._features = models.dlib, models.features if portrait is None else None
        self._portrait = portrait
        self._measures: tuple[list[Array], list[Array]] = ([], [])
        self._faces = _Thinned(IDENTITY_FRAMES)
        self._waiting: tuple[list[Frame], list[Frame]] = ([], [])
        self._distances: list[Array] = []

    def add(self, reference: Frame, output: Frame) -> None:
        """Take in the next frame of both clips, uint8 [H, W, 3] RGB."""
        if self._dlib is not None:
            points = self._dlib.points(reference), self._dlib.points(output)
            for kept, frame, found in zip(self._measures, (reference, output), points, strict=True):
                nothing = np.full(len(dlib_face.MEASURES), np.nan)
                kept.append(nothing if found is None else dlib_face.measures(frame, found))
            if points[0] is not None and points[1] is not None:
                self._faces.add(((reference, points[0]), (output, points[1])))
        if self._features is not None:
            for waiting, frame in zip(self._waiting, (reference, output), strict=True):
                waiting.append(frame)
            if len(self._waiting[0]) == BATCH:
                self._compare_features()

    def figures(self) -> JudgeFigures:
        """Return the figures of all frames so far."""
        correlations: dict[str, float] = {}
        series: dict[str, Array] = {}
        missing: dict[str, str] = {}
        faces, identity = 0, None
        if self._dlib is not None and self._measures[0]:
            reference, output = (np.array(side) for side in self._measures)
            faces = int((np.isfinite(reference[:, 0]) & np.isfinite(output[:, 0])).sum())
            for i, name in enumerate(dlib_face.MEASURES):
                series |= {f"dlib_{name}": output[:, i], f"reference_dlib_{name}": reference[:, i]}
                r = pearson(reference[:, i], output[:, i])
                if name == "gaze" and _spread(reference[:, i]) < LEAST_GAZE:
                    r = None
                if r is None:
                    missing[f"dlib_{name}"] = NO_MOVEMENT if faces >= 3 else NO_FACE
                else:
                    correlations[name] = r
            identity = self._identity_distance(self._dlib)
            if identity is None:
                missing["dlib_identity"] = "a face that dlib finds in both"
        else:
            missing |= {key: NEEDS[key] for key in NEEDS if key.startswith("dlib_")}
        if self._waiting[0]:
            self._compare_features()
        if self._distances:
            series["efficientnet_distance"] = np.concatenate(self._distances)
        elif self._portrait is None:
            missing["efficientnet_distance"] = NEEDS["efficientnet_distance"]
        distance = float(series["efficientnet_distance"].mean()) if self._distances else None
        return JudgeFigures(correlations, identity, distance, faces, series, missing)

    def _identity_distance(self, dlib: DlibFace) -> float | None:
        """Mean distance of the faces that were kept from the reference's, or from the portrait's mean."""
        person = None
        if self._portrait is not None:
            found = [
                (crop, dlib.points(crop)) for crop in self._portrait[:: -(-len(self._portrait) // PORTRAIT_FRAMES)]
            ]
            known = [dlib.embed(crop, points) for crop, points in found if points is not None]
            if not known:
                return None
            person = np.mean(known, axis=0)
        distances = [
            float(np.linalg.norm(dlib.embed(*shown) - (dlib.embed(*own) if person is None else person)))
            for own, shown in self._faces.kept
        ]
        return float(np.mean(distances)) if distances else None

    def _compare_features(self) -> None:
        assert self._features is not None
        a, b = (np.stack(side) for side in self._waiting)
        self._distances.append(feature_distance(self._features, a, b))
        for side in self._waiting:
            side.clear()


def _spread(series: Array) -> float:
    """Standard deviation of a series [T] without its NaN; 0 where there are none."""
    seen = series[np.isfinite(series)]
    return float(seen.std()) if len(seen) else 0.0


Face = tuple[Frame, Array]  # a frame and its landmarks


class _Thinned:
    """Keeps at most `most` pairs of faces, evenly spread over all that came: drops every second when there are more."""

    def __init__(self, most: int) -> None:
        self.kept: list[tuple[Face, Face]] = []
        self._most, self._step, self._count = most, 1, 0

    def add(self, pair: tuple[Face, Face]) -> None:
        if self._count % self._step == 0:
            self.kept.append(pair)
            if len(self.kept) > self._most:
                self.kept, self._step = self.kept[::2], 2 * self._step
        self._count += 1
