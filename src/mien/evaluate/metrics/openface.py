"""rho_AU, rho_GZ and rho_pose from the tables that OpenFace 2.2's `FeatureExtraction` writes.

Pearson's r over time for each column, then the mean over columns: 17 action units' intensities, two gaze angles,
three head rotations; rho_AU+GZ is the mean over the first two's nineteen columns. OpenFace is not part of mien: its
`FeatureExtraction` is run where it is on the PATH, and the tables can come from any run of it.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError, MienError
from mien.evaluate.frames import panel_frames
from mien.evaluate.metrics.facemesh import pearson
from mien.media.still_images import write_image

PROGRAM = "FeatureExtraction"
Table = dict[str, NDArray[np.float64]]

UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
COLUMNS = {
    "rho_au": tuple(f"AU{unit}_r" for unit in UNITS),
    "rho_gz": ("gaze_angle_x", "gaze_angle_y"),
    "rho_pose": ("pose_Rx", "pose_Ry", "pose_Rz"),
}
COLUMNS["rho_au_gz"] = COLUMNS["rho_au"] + COLUMNS["rho_gz"]


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read the columns [T] by name, NaN where OpenFace says that tracking failed. Raises InputError."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [{k.strip(): v for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of OpenFace.") from error
    wanted = dict.fromkeys(name for names in COLUMNS.values() for name in names)
    absent = [name for name in wanted if not rows or name not in rows[0]]
    if absent:
        raise InputError(f"{path} is not a table of OpenFace: it has no column {absent[0]}.")
    try:
        table = {name: np.array([float(row[name]) for row in rows]) for name in wanted}
        lost = np.array([float(row.get("success") or 1) == 0 for row in rows])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} has a field that is not a number.") from error
    for values in table.values():
        values[lost] = np.nan
    return table


def correlations(reference: Table, output: Table) -> dict[str, float | None]:
    """Return `rho_au`, `rho_gz`, `rho_pose`, `rho_au_gz`, each -1..1: mean r over the columns that move in both clips.

    Raises InputError when the tables' lengths differ by more than one frame.
    """
    lengths = [len(next(iter(table.values()))) for table in (reference, output)]
    if abs(lengths[0] - lengths[1]) > 1:
        raise InputError(f"OpenFace's tables differ in length: {lengths[0]} against {lengths[1]} frames.")
    count = min(lengths)
    result: dict[str, float | None] = {}
    for metric, names in COLUMNS.items():
        found = [pearson(reference[name][:count], output[name][:count]) for name in names]
        known = [r for r in found if r is not None]
        result[metric] = float(np.mean(known)) if known else None
    return result


def program() -> str | None:
    """Find OpenFace's `FeatureExtraction` on the PATH; None where it is not."""
    return shutil.which(PROGRAM)


def extract(path: str | os.PathLike[str], panel: int | None = None) -> Table:
    """Run FeatureExtraction on a video, a folder of images, or one panel of a side-by-side clip; returns its table.

    The frames are taken as they are, neither resized nor thinned out: OpenFace tracks. Raises MienError when the
    program is not there or fails.
    """
    place = Path(path)
    found = program()
    if found is None:
        raise MienError(f"{PROGRAM} of OpenFace is not on the PATH.")
    return _extract(found, place, place.stat().st_mtime_ns, panel)


@lru_cache(maxsize=8)  # a suite's methods share a reference
def _extract(program_path: str, path: Path, modified: int, panel: int | None) -> Table:
    with tempfile.TemporaryDirectory(prefix="mien-openface-") as name:
        folder = Path(name)
        source = path
        if panel is not None:
            source = folder / "frames"
            source.mkdir()
            for index, frame in enumerate(panel_frames(path, panel)):
                write_image(source / f"{index:06}.png", frame)
        kind = "-fdir" if source.is_dir() else "-f"
        command = [program_path, kind, str(source.absolute()), "-aus", "-pose", "-gaze"]
        command += ["-out_dir", str(folder / "out"), "-of", "table"]
        ended = subprocess.run(command, capture_output=True, check=False)
        table = folder / "out" / "table.csv"
        if ended.returncode or not table.is_file():
            raise MienError(f"{PROGRAM} gave no table of {path} (exit code {ended.returncode}).")
        return read_table(table)
