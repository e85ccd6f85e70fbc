"""rho_AU, rho_GZ and rho_pose from the tables that OpenFace 2.2's `FeatureExtraction` writes.

Pearson's r over time for each column, then the mean over columns: 17 action units' intensities, two gaze angles,
three head rotations. OpenFace is not part of mien; the tables can come from any run of it.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.evaluate.facemesh import pearson

UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
COLUMNS = {
    "rho_au": tuple(f"AU{unit}_r" for unit in UNITS),
    "rho_gz": ("gaze_angle_x", "gaze_angle_y"),
    "rho_pose": ("pose_Rx", "pose_Ry", "pose_Rz"),
}


def read_table(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """Columns [T] by name, NaN where OpenFace says that tracking failed. Raises InputError."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = [{k.strip(): v for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of OpenFace.") from error
    wanted = [name for names in COLUMNS.values() for name in names]
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


def correlations(
    reference: dict[str, NDArray[np.float64]], output: dict[str, NDArray[np.float64]]
) -> dict[str, float | None]:
    """`rho_au`, `rho_gz`, `rho_pose`, each -1..1: the mean of r over those columns that move in both clips.

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
