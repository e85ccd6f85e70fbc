"""A suite's results as one table, laid out as the paper's: a row a method, a column a metric (Tables 1 and 2) or a
clip (Table 3)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mien.evaluate.metrics.frechet import distance_of
from mien.evaluate.registry import BY_KEY, Metric, metrics_of
from mien.evaluate.suite import Results, Suite

# Student's t for a two-sided interval of 95 % by degrees of freedom; beyond the list nearly the normal's.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NORMAL = 1.96


@dataclass(frozen=True)
class Cell:
    """Mean over clips, half of the 95 % interval (None for one clip), the number of clips, and the place among the
    methods that are compared with the clips: 1 for the best, 2 for the second best, 0 for the others."""

    mean: float
    half: float | None
    count: int
    place: int = 0

    def text(self) -> str:
        """Format as in the table: `12.3 ±0.4`, the best in stars, the second best in underscores."""
        half = "" if self.half is None else f" ±{self.half:.3g}"
        mark = {1: "**", 2: "_"}.get(self.place, "")
        return f"{mark}{self.mean:.4g}{mark}{half}"


@dataclass(frozen=True)
class Column:
    """What stands above a column, and the cells below it by method."""

    key: str
    label: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """The columns that at least one method has, and for the others why none has them."""

    columns: tuple[Column, ...]
    missing: dict[str, str]  # metric's label -> what it needs

    def cell(self, method: str, key: str) -> Cell | None:
        """Find the cell of a method in the column `key`, a metric's key or a clip's name."""
        return next((column.cells.get(method) for column in self.columns if column.key == key), None)


def summarise(suite: Suite, results: Results) -> Table:
    """Compute all cells.

    FID and FVD are taken over the frames of all clips together, as distances between sets are meant.
    """
    wanted = [BY_KEY[key] for key in suite.columns] or list(metrics_of(suite.table))
    own = {job.method for job in suite.jobs if job.own_reference}
    if suite.layout == "clips":
        columns = [_ranked(_clip_column(suite, results, wanted[0], clip), wanted[0], own) for clip in suite.clips]
    else:
        columns = [_ranked(_metric_column(suite, results, metric), metric, own) for metric in wanted]
    # Clips that are each too short for a Frechet distance can have one together.
    pooled = {column.key for column in columns if column.cells} if suite.layout == "metrics" else set()
    missing = {}
    for metric in wanted:
        if metric.key in pooled:
            continue
        reasons = [r.facts.get("not_measured", {}).get(metric.key) for r in results.values() if r.error is None]
        if reasons and all(reasons):
            missing[metric.label] = str(reasons[0])
    return Table(tuple(column for column in columns if column.cells), missing)


def _metric_column(suite: Suite, results: Results, metric: Metric) -> Column:
    cells = {}
    for method in suite.methods:
        found = [results[method, clip] for clip in suite.clips if (method, clip) in results]
        pooled = [result.features[metric.key] for result in found if metric.key in result.features]
        values = [result.facts.get("metrics", {}).get(metric.key) for result in found]
        known = [value for value in values if value is not None]
        if pooled:
            distance = distance_of(pooled)
            if distance is not None:
                cells[method] = Cell(distance, None, len(pooled))
        elif known:
            cells[method] = Cell(float(np.mean(known)), interval(known), len(known))
    return Column(metric.key, f"{metric.label} {'↑' if metric.more_is_better else '↓'}", cells)


def _clip_column(suite: Suite, results: Results, metric: Metric, clip: str) -> Column:
    found = {
        m: results[m, clip].facts.get("metrics", {}).get(metric.key) for m in suite.methods if (m, clip) in results
    }
    return Column(clip, clip, {m: Cell(value, None, 1) for m, value in found.items() if value is not None})


def interval(values: Sequence[float]) -> float | None:
    """Return half of the 95 % confidence interval of a mean, by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    t = STUDENT[len(values) - 2] if len(values) - 2 < len(STUDENT) else NORMAL
    return float(t * np.std(values, ddof=1) / np.sqrt(len(values)))


def _ranked(column: Column, metric: Metric, own: set[str]) -> Column:
    """The column with the places of its methods, but for those with a reference of their `own`."""
    # Means over different numbers of clips are not compared, and the reference's own jitter is nobody's merit.
    cells = {method: cell for method, cell in column.cells.items() if method not in own}
    if len(cells) < 2 or len({cell.count for cell in cells.values()}) > 1 or metric.key == "jitter_reference":
        return column
    order = sorted(cells, key=lambda method: cells[method].mean, reverse=metric.more_is_better)
    places = {method: place for place, method in enumerate(order[:2], start=1)}
    return replace(column, cells={m: replace(cell, place=places.get(m, 0)) for m, cell in column.cells.items()})


def markdown(suite: Suite, table: Table) -> str:
    """Format the table in Markdown.

    A row a method, best in bold, second best in italics; then what could not be measured.
    """
    lines = ["| method | clips | " + " | ".join(column.label for column in table.columns) + " |"]
    lines.append("| --- " * (len(table.columns) + 2) + "|")
    for method in suite.methods:
        cells = [column.cells.get(method) for column in table.columns]
        texts = [cell.text() if cell else "-" for cell in cells]
        lines.append(f"| {method} | {clips_of(suite, table, method)} | " + " | ".join(texts) + " |")
    lines += ["", *(f"{label}: not measured: {needs}" for label, needs in table.missing.items())]
    return "\n".join(lines).rstrip() + "\n"


def clips_of(suite: Suite, table: Table, method: str) -> int:
    """Count the clips that a method's row is of."""
    counts = [column.cells[method].count for column in table.columns if method in column.cells]
    return sum(counts) if suite.layout == "clips" else max(counts, default=0)


def comma_separated(suite: Suite, table: Table) -> str:
    """Format as CSV, a line a method and column: method, column, mean, half of the 95 % interval, clips."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "metric", "mean", "half_interval_95", "clips"])
    for method in suite.methods:
        for column in table.columns:
            cell = column.cells.get(method)
            if cell is not None:
                half = "" if cell.half is None else f"{cell.half:.6g}"
                writer.writerow([method, column.key, f"{cell.mean:.6g}", half, cell.count])
    return text.getvalue()
