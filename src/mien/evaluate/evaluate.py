"""All metrics of one pair of clips.

A metric that could not be had says what it needs; no metric stands in for another under its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from mien.errors import InputError, MienError
from mien.evaluate.face_crops import portrait_crops
from mien.evaluate.frames import Frame, count_frames
from mien.evaluate.judges import JudgeModels, Judging
from mien.evaluate.metrics import headpose, openface
from mien.evaluate.metrics.facemesh import MEASURES, POINTS, measures, pearson
from mien.evaluate.metrics.fvd import Fvd
from mien.evaluate.metrics.jitter import jitter
from mien.evaluate.metrics.l1 import l1
from mien.evaluate.metrics.mouth import add_mouths
from mien.evaluate.metrics.psnr import psnr
from mien.evaluate.metrics.ssim import ssim
from mien.evaluate.network_metrics import NetworkMetrics
from mien.evaluate.networks import MetricNetworks
from mien.evaluate.registry import METRICS, NO_FACE, NO_JUDGES, NO_MOVEMENT, PUPPETEERING, RESYNTHESIS, SHORT
from mien.evaluate.result import Array, Evaluation
from mien.evaluate.sides import Side
from mien.face.mesh import FaceMesh
from mien.runtime.progress import NoProgress, Progress

PIXELS = ("l1", "psnr", "ssim")


@dataclass(frozen=True)
class Options:
    """How two clips are compared.

    Side in pixels, every n-th frame, rows left out at the top of the pixel metrics, and the panel of a side-by-side
    clip on either side, and in the video of whose face it should be.
    """

    size: int = 256
    step: int = 1
    top: int = 0
    reference_panel: int | None = None
    output_panel: int | None = None
    identity_panel: int | None = None


def evaluate(
    reference: str | Path,
    output: str | Path,
    options: Options | None = None,
    *,
    networks: MetricNetworks | None = None,
    judges: JudgeModels | None = None,
    tables: tuple[Path, Path] | None = None,
    identity: str | Path | None = None,
    inversions: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare two clips (videos or folders of images) frame by frame.

    Of a clip whose frames are not square the face is cut out first, as stage 1 does it (`Side`), unless a panel is
    meant.

    `tables`: OpenFace's of both clips; without them OpenFace is run where it is on the PATH. `identity`: the portrait
    or video whose face the output should have; the output is then a puppet that the reference's person moves, and the
    metrics are those of Table 2. `judges`: dlib and EfficientNet-Lite0.
    `networks`: those of the other metrics. `inversions`: the clip S_t, which the output is compared with as well.
    Raises VideoError, and InputError when the clips' lengths differ by more than one frame.
    """
    options = options or Options()
    if options.size < 32 or options.step < 1 or not 0 <= options.top <= options.size - 16:
        raise InputError("the size must be 32 or more, the step 1 or more, and --top must leave 16 rows.")
    if identity is not None and inversions is not None:
        raise InputError("a puppet has no inversions to be compared with.")
    networks = networks or MetricNetworks()
    progress = progress or NoProgress()
    _check_lengths(reference, output)
    if inversions is not None:
        _check_lengths(inversions, output)
    for table in tables or ():
        openface.read_table(table)
    sides = _sides(reference, output, options, identity is not None, progress)
    with progress.stage("evaluate", -(-count_frames(reference) // options.step)) as tick:
        result, meshes = _compare(sides, options, networks, judges, identity, tick)
    _faces(result, *meshes)
    if result.table == PUPPETEERING and networks.i3d is not None:
        mouths = Fvd(networks.i3d)
        add_mouths(mouths, iter(sides[0]), iter(sides[1]), meshes)
        result.put_set("fvd_m", mouths, SHORT if result.faces else NO_FACE)
    _openface(result, reference, output, options, tables)
    if inversions is not None:
        against = replace(options, reference_panel=None)
        result.inversions = evaluate(inversions, output, against, networks=networks, judges=judges, progress=progress)
    return result


def _compare(
    sides: tuple[Side, Side],
    options: Options,
    networks: MetricNetworks,
    judges: JudgeModels | None,
    identity: str | Path | None,
    tick: Callable[[int], None],
) -> tuple[Evaluation, tuple[Array, Array]]:
    """Take the metrics of pixels and networks in one pass over the frames.

    Returns the meshes [T, 478, 3] of both clips too.
    """
    result = Evaluation(RESYNTHESIS if identity is None else PUPPETEERING)
    pixels: list[tuple[float, float, float]] = []
    meshes: tuple[list[Array], list[Array]] = ([], [])
    mesher = FaceMesh()
    try:
        portrait = None if identity is None else portrait_crops(identity, mesher, options.identity_panel)
        by_networks = NetworkMetrics(networks, portrait)
        judging = Judging(judges, portrait) if judges is not None else None
        for a, b in _pairs(sides):
            if identity is None:
                x, y = a[options.top :], b[options.top :]
                pixels.append((l1(x, y), psnr(x, y), ssim(x, y)))
            for kept, frame in zip(meshes, (a, b), strict=True):
                kept.append(_mesh(mesher, frame))
            by_networks.add(a, b, meshes[0][-1], meshes[1][-1])
            if judging is not None:
                judging.add(a, b)
            tick(1)
    finally:
        mesher.close()
    if not meshes[0]:
        raise InputError("the two clips have no frame in common.")
    by_networks.finish(result)
    if judging is not None:
        judging.figures().put_into(result)
    else:
        result.missing |= {metric.key: NO_JUDGES for metric in METRICS if metric.judge}
    result.frames = len(meshes[0])
    if result.table == RESYNTHESIS:
        for key, values in zip(PIXELS, np.array(pixels).T, strict=True):
            result.values[key], result.series[key] = float(values.mean()), values
    return result, (np.array(meshes[0]), np.array(meshes[1]))


def _check_lengths(reference: str | Path, output: str | Path) -> None:
    """Raise InputError where one clip has two frames more than the other, as rounding a duration does not make."""
    (few, shorter), (many, longer) = sorted((count_frames(path), str(path)) for path in (reference, output))
    if many - few > 1:
        raise InputError(f"{longer} has {many - few} more frames than {shorter}: they are compared frame by frame.")


def _sides(
    reference: str | Path, output: str | Path, options: Options, puppet: bool, progress: Progress
) -> tuple[Side, Side]:
    first = Side(reference, options.size, options.step, options.reference_panel, progress=progress)
    beside = None if puppet else first
    return first, Side(output, options.size, options.step, options.output_panel, beside=beside, progress=progress)


def _pairs(sides: tuple[Side, Side]) -> Iterator[tuple[Frame, Frame]]:
    """Yield the frames of both clips in step.

    One more frame on either side is left out, as rounding a duration makes one.
    """
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
    """Take the metrics of the meshes [T, 478, 3]: measures over time, head pose, jitter."""
    found = np.isfinite(reference).all((1, 2)), np.isfinite(output).all((1, 2))
    seen = found[0] & found[1]
    result.faces = int(seen.sum())
    enough = result.faces >= 3
    curves = []
    for meshes, here, prefix in ((reference, found[0], "reference_mesh_"), (output, found[1], "mesh_")):
        curve = np.full((len(meshes), len(MEASURES)), np.nan)
        if here.any():
            curve[here] = [measures(mesh) for mesh in meshes[here]]
        result.series |= {prefix + name: curve[:, i] for i, name in enumerate(MEASURES)}
        curves.append(curve)
    for i, name in enumerate(MEASURES):
        r = pearson(curves[0][:, i], curves[1][:, i]) if enough else None
        result.put(f"mesh_{name}", r, NO_MOVEMENT if enough else NO_FACE)
    a, b = (np.array([headpose.angles(mesh) for mesh in meshes[seen]]) for meshes in (reference, output))
    errors = [headpose.mean_error(a[:, i], b[:, i]) if result.faces else None for i in range(len(headpose.ANGLES))]
    for name, error in zip(headpose.ANGLES, errors, strict=True):
        result.put(f"head_{name}", error, NO_FACE)
    known = [error for error in errors if error is not None]
    result.put("head_pose", float(np.mean(known)) if known else None, NO_FACE)
    result.put("jitter", jitter(output), NO_FACE)
    result.put("jitter_reference", jitter(reference), NO_FACE)


def _openface(
    result: Evaluation,
    reference: str | Path,
    output: str | Path,
    options: Options,
    tables: tuple[Path, Path] | None,
) -> None:
    """Take the correlations by OpenFace: from the tables that were given, or by running it."""
    try:
        if tables is not None:
            a, b = (openface.read_table(table) for table in tables)
        elif openface.program() is not None:
            a = openface.extract(reference, options.reference_panel)
            b = openface.extract(output, options.output_panel)
        else:
            return
    except InputError:
        raise
    except MienError as error:
        for key in openface.COLUMNS:
            result.missing[key] = f"OpenFace to work: {error}"
        return
    for key, value in openface.correlations(a, b).items():
        result.missing.pop(key, None)
        result.put(key, value, NO_MOVEMENT)


def write_reports(result: Evaluation, as_json: Path | None, as_csv: Path | None) -> None:
    """Write the JSON and the CSV, whichever is asked for. Raises OutputError."""
    from mien.runtime.files import write_text

    if as_json is not None:
        write_text(as_json, json.dumps(result.to_json(), indent=2) + "\n")
    if as_csv is not None:
        write_text(as_csv, result.to_csv())
