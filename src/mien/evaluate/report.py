"""All metrics of one pair of clips, and how they are shown: a table, JSON, CSV.

A metric that could not be had says what it needs; no metric stands in for another under its name.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError, PackError
from mien.evaluate import headpose, openface
from mien.evaluate.facemesh import MEASURES, POINTS, measures, pearson
from mien.evaluate.frames import Frame, frames
from mien.evaluate.jitter import jitter
from mien.evaluate.l1 import l1
from mien.evaluate.psnr import psnr
from mien.evaluate.ssim import ssim
from mien.models.landmarks import FaceMesh

if TYPE_CHECKING:
    from mien.models.i3d import I3D
    from mien.models.inception import Inception

Array = NDArray[np.float64]
BATCH = 32  # frames at once through a network


@dataclass(frozen=True)
class Metric:
    """A row of the table: its name in files, its name for people, its unit, and whether more is better."""

    key: str
    label: str
    unit: str
    more_is_better: bool


METRICS = (
    Metric("l1", "L1", "of 255", False),
    Metric("psnr", "PSNR", "dB", True),
    Metric("ssim", "SSIM", "", True),
    Metric("lpips", "LPIPS", "", False),
    Metric("id_loss", "L_ID (ArcFace)", "", False),
    Metric("fid", "FID", "", False),
    Metric("fvd", "FVD", "", False),
    Metric("rho_au", "rho_AU", "", True),
    Metric("rho_gz", "rho_GZ", "", True),
    Metric("rho_pose", "rho_pose", "", True),
    *(Metric(f"mesh_{name}", f"mesh: {name.replace('_', ' ')}, r", "", True) for name in MEASURES),
    *(Metric(f"head_{name}", f"head: {name}, mean error", "degrees", False) for name in headpose.ANGLES),
    Metric("pack_identity", "identity by the pack's network, cosine", "", True),
    Metric("jitter", "jitter", "% of eye distance", False),
    Metric("jitter_reference", "jitter of the reference", "% of eye distance", False),
)

NEEDS = {
    "lpips": "a pack with an LPIPS network (--pack; `mien models convert --lpips-alex`)",
    "id_loss": "a pack with ArcFace (--pack; `mien models convert --arcface`)",
    "fid": "FID's Inception network (--inception pt_inception-2015-12-05-6726825d.pth)",
    "fvd": "the I3D network (--i3d i3d_pretrained_400.pt)",
    "rho_au": "OpenFace's tables (--openface-csv)",
    "rho_gz": "OpenFace's tables (--openface-csv)",
    "rho_pose": "OpenFace's tables (--openface-csv)",
}
SHORT = "more frames"
NO_FACE = "a face in both clips, in three frames or more"
NO_MOVEMENT = "movement: in one of the clips this does not change"


@dataclass
class Evaluation:
    """Values by the metrics' keys, and for those that could not be had what they need; `series` over time of the
    pixel metrics."""

    frames: int = 0
    faces: int = 0
    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)

    def put(self, key: str, value: float | None, needs: str) -> None:
        """Take a value, or what it needs where there is none."""
        if value is None:
            self.missing[key] = needs
        else:
            self.values[key] = value

    def to_json(self) -> dict[str, Any]:
        """`frames`, `faces` (frames with a face in both clips), `metrics` and `not_measured`."""
        return {
            "frames": self.frames,
            "faces": self.faces,
            "metrics": {k.key: round(self.values[k.key], 5) for k in METRICS if k.key in self.values},
            "not_measured": {k.key: f"needs {self.missing[k.key]}" for k in METRICS if k.key in self.missing},
        }

    def to_csv(self) -> str:
        """One line a metric: key, value (empty where it could not be had), unit, what is better, note."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["metric", "value", "unit", "better", "note"])
        for metric in METRICS:
            value = f"{self.values[metric.key]:.5f}" if metric.key in self.values else ""
            note = f"not measured: needs {self.missing[metric.key]}" if metric.key in self.missing else ""
            writer.writerow([metric.key, value, metric.unit, "more" if metric.more_is_better else "less", note])
        return text.getvalue()

    def to_text(self) -> str:
        """The table for the terminal."""
        lines = [f"{self.frames} frames, {self.faces} with a face in both"]
        for metric in METRICS:
            label = f"{metric.label} {'↑' if metric.more_is_better else '↓'}"
            if metric.key in self.values:
                lines.append(f"{label:<44}{self.values[metric.key]:>9.3f}  {metric.unit}".rstrip())
            else:
                lines.append(f"{label:<44}{'-':>9}  not measured: needs {self.missing[metric.key]}")
        return "\n".join(lines)


@dataclass
class Options:
    """How clips are compared: side in pixels, every n-th frame, rows left out at the top of the pixel metrics, and the
    panel of a side-by-side clip on either side."""

    size: int = 256
    step: int = 1
    top: int = 0
    reference_panel: int | None = None
    output_panel: int | None = None


@dataclass
class Judges:
    """Networks that metrics are taken with; what is None is not measured. `pack`: whose identity, ArcFace and LPIPS
    networks to use."""

    pack: Any = None
    inception: Inception | None = None
    i3d: I3D | None = None


def evaluate(
    reference: str | Path,
    output: str | Path,
    options: Options | None = None,
    *,
    judges: Judges | None = None,
    tables: tuple[Path, Path] | None = None,
    tick: Callable[[int], None] = lambda frames: None,
) -> Evaluation:
    """Compare two clips (videos or folders of images) frame by frame.

    `tables`: OpenFace's of both clips.
    Raises VideoError, and InputError when the clips' lengths differ by more than one frame.
    """
    options = options or Options()
    if options.size < 32 or options.step < 1 or not 0 <= options.top <= options.size - 16:
        raise InputError("the size must be 32 or more, the step 1 or more, and --top must leave 16 rows.")
    result = Evaluation()
    networks = _Networks(judges or Judges())
    pixels: list[tuple[float, float, float]] = []
    meshes: list[tuple[Array, Array]] = []
    mesher = FaceMesh()
    try:
        for a, b in _pairs(reference, output, options):
            x, y = a[options.top :], b[options.top :]
            pixels.append((l1(x, y), psnr(x, y), ssim(x, y)))
            meshes.append((_mesh(mesher, a), _mesh(mesher, b)))
            networks.add(a, b)
            tick(1)
    finally:
        mesher.close()
    networks.finish(result)
    result.frames = len(pixels)
    for key, values in zip(("l1", "psnr", "ssim"), zip(*pixels, strict=True), strict=True):
        result.values[key] = float(np.mean(values))
        result.series[key] = [round(value, 4) for value in values]
    _faces(result, np.array([m[0] for m in meshes]), np.array([m[1] for m in meshes]))
    if tables is not None:
        found = openface.correlations(openface.read_table(tables[0]), openface.read_table(tables[1]))
        for key, value in found.items():
            result.put(key, value, NO_MOVEMENT)
    for key, needs in NEEDS.items():
        if key not in result.values and key not in result.missing:
            result.missing[key] = needs
    return result


def _pairs(reference: str | Path, output: str | Path, options: Options) -> Any:
    """Frames of both clips in step. One more frame on either side is left out, as rounding a duration makes one."""
    sides = [
        frames(path, size=options.size, step=options.step, panel=panel)
        for path, panel in ((reference, options.reference_panel), (output, options.output_panel))
    ]
    alone = 0
    for a, b in zip_longest(*sides):
        if a is not None and b is not None:
            yield a, b
            continue
        alone += 1
        if alone > 1:
            longer = "reference" if b is None else "output"
            raise InputError(f"the {longer} has more frames than the other clip; they are compared frame by frame.")


def _mesh(mesher: FaceMesh, frame: Frame) -> Array:
    found = mesher(frame)
    return found[0] if found else np.full((POINTS, 3), np.nan)


def _faces(result: Evaluation, reference: Array, output: Array) -> None:
    """Everything that is read off the meshes [T, 478, 3]."""
    seen = np.isfinite(reference).all((1, 2)) & np.isfinite(output).all((1, 2))
    result.faces = int(seen.sum())
    enough = result.faces >= 3
    a, b = ([measures(mesh) for mesh in meshes[seen]] for meshes in (reference, output))
    for i, name in enumerate(MEASURES):
        r = pearson(np.array(a)[:, i], np.array(b)[:, i]) if enough else None
        result.put(f"mesh_{name}", r, NO_MOVEMENT if enough else NO_FACE)
    a, b = ([headpose.angles(mesh) for mesh in meshes[seen]] for meshes in (reference, output))
    for i, name in enumerate(headpose.ANGLES):
        error = headpose.mean_error(np.array(a)[:, i], np.array(b)[:, i]) if result.faces else None
        result.put(f"head_{name}", error, NO_FACE)
    result.put("jitter", jitter(output), NO_FACE)
    result.put("jitter_reference", jitter(reference), NO_FACE)


class _Networks:
    """The metrics that networks give, in batches."""

    def __init__(self, judges: Judges) -> None:
        self._pack = judges.pack
        self._sets: dict[str, Any] = {}
        if judges.inception is not None:
            from mien.evaluate.fid import Fid

            self._sets["fid"] = Fid(judges.inception)
        if judges.i3d is not None:
            from mien.evaluate.fvd import Fvd

            self._sets["fvd"] = Fvd(judges.i3d)
        self._waiting: list[tuple[Frame, Frame]] = []
        self._values: dict[str, list[Array]] = {}

    def add(self, reference: Frame, output: Frame) -> None:
        if self._pack is not None or self._sets:
            self._waiting.append((reference, output))
            if len(self._waiting) == BATCH:
                self._run()

    def finish(self, result: Evaluation) -> None:
        if self._waiting:
            self._run()
        result.put("pack_identity", self._mean("pack_identity"), "a pack with an identity network (--pack)")
        for key in ("id_loss", "lpips"):
            result.put(key, self._mean(key), NEEDS[key])
        for key, judge in self._sets.items():
            result.put(key, judge.value(), SHORT)

    def _mean(self, key: str) -> float | None:
        return float(np.concatenate(self._values[key]).mean()) if key in self._values else None

    def _run(self) -> None:
        a, b = (np.stack(side) for side in zip(*self._waiting, strict=True))
        self._waiting.clear()
        for judge in self._sets.values():
            judge.add(a, b)
        if self._pack is not None:
            self._run_pack(a, b)

    def _run_pack(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
        from mien.evaluate.identity import similarity
        from mien.evaluate.lpips import lpips

        networks = self._pack.networks
        if "identity" in networks:
            likeness = similarity(self._pack.identity, a, b)
            self._values.setdefault("pack_identity", []).append(likeness)
            if self._pack.configs["identity"].get("kind") == "arcface":
                self._values.setdefault("id_loss", []).append(1 - likeness)
        distance = networks.get("lpips_alex") or networks.get("lpips_vgg")
        if distance is not None:
            self._values.setdefault("lpips", []).append(lpips(distance, a, b))


def load_networks(name: str | None) -> Any:
    """The pack whose networks serve as judges: of that name, or `mini` if it is there; None if it is not."""
    from mien.packs.pack import Pack

    try:
        return Pack.load(name or "mini")
    except PackError:
        if name is not None:
            raise
        return None


def write_reports(result: Evaluation, as_json: Path | None, as_csv: Path | None) -> None:
    """Write the JSON and the CSV, whichever is asked for. Raises OutputError."""
    from mien.files import write_text

    if as_json is not None:
        write_text(as_json, json.dumps(result.to_json(), indent=2) + "\n")
    if as_csv is not None:
        write_text(as_csv, result.to_csv())
