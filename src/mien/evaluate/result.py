"""What an evaluation found: values, series, and what could not be measured; as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.evaluate.metrics.frechet import FeatureSets
from mien.evaluate.registry import RESYNTHESIS, Metric, metrics_of

Array = NDArray[np.float64]


@dataclass
class Evaluation:
    """The result of an evaluation.

    `values` by the metrics' keys, and `missing`, what those need that could not be had.

    `table`: which of the paper's tables this is a row of. `series`: over time [T], NaN where there is none: metrics
    that are taken frame by frame by their keys, the mesh's measures of the output as `mesh_...` and those of the
    reference as `reference_mesh_...`. `features`: of the Frechet distances, for both sides. `inversions`: the same
    output against S_t, where that was asked for.
    """

    table: int = RESYNTHESIS
    frames: int = 0
    faces: int = 0
    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    series: dict[str, Array] = field(default_factory=dict)
    features: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)
    inversions: Evaluation | None = None

    def put(self, key: str, value: float | None, needs: str) -> None:
        """Store a value, or what it needs where there is none."""
        if value is None:
            self.missing[key] = needs
        else:
            self.missing.pop(key, None)
            self.values[key] = value

    def put_set(self, key: str, judge: FeatureSets, needs: str) -> None:
        """Store a Frechet distance, and the features that it is of."""
        self.put(key, judge.value(), needs)
        found = judge.features()
        if found is not None:
            self.features[key] = found

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the table."""
        return metrics_of(self.table)

    def to_json(self) -> dict[str, Any]:
        """Return what the JSON file holds.

        `frames`, `faces` (frames with a face in both clips), `metrics`, `not_measured` and `also_fitted` (the keys of
        metrics by what encoding fits too); `against_inversions` with the same five where S_t was given.
        """
        facts: dict[str, Any] = {
            "frames": self.frames,
            "faces": self.faces,
            "metrics": {k.key: round(self.values[k.key], 5) for k in self.metrics if k.key in self.values},
            "also_fitted": [k.key for k in self.metrics if k.fitted and k.key in self.values],
            "not_measured": {k.key: f"needs {self.missing[k.key]}" for k in self.metrics if k.key in self.missing},
        }
        if self.inversions is not None:
            facts["against_inversions"] = self.inversions.to_json()
        return facts

    def to_csv(self) -> str:
        """Format as CSV, a line a metric.

        Key, value (empty where it could not be had), unit, what is better, note, and the value against S_t where that
        was given.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        more = [] if self.inversions is None else ["value_against_inversions"]
        writer.writerow(["metric", "value", "unit", "better", "note", *more])
        for metric in self.metrics:
            note = "also fitted" if metric.fitted else ""
            if metric.key in self.missing:
                note = f"not measured: needs {self.missing[metric.key]}"
            better = "more" if metric.more_is_better else "less"
            values = [e.values.get(metric.key) for e in (self, self.inversions) if e is not None]
            first, *others = ["" if value is None else f"{value:.5f}" for value in values]
            writer.writerow([metric.key, first, metric.unit, better, note, *others])
        return text.getvalue()

    def to_text(self) -> str:
        """Format the table for the terminal."""
        lines = [f"{self.frames} frames, {self.faces} with a face in both"]
        if self.inversions is not None:
            lines.append(f"{'':<44}{'I_t':>9}{'S_t':>9}")
        for metric in self.metrics:
            label = f"{metric.label} {'↑' if metric.more_is_better else '↓'}"
            sides = [e for e in (self, self.inversions) if e is not None]
            shown = "".join(f"{e.values[metric.key]:>9.3f}" if metric.key in e.values else f"{'-':>9}" for e in sides)
            note = f"not measured: needs {self.missing[metric.key]}" if metric.key in self.missing else ""
            if metric.key in self.values:
                note = ", ".join(part for part in (metric.unit, "also fitted" if metric.fitted else "") if part)
            lines.append(f"{label:<44}{shown}  {note}".rstrip())
        return "\n".join(lines)
