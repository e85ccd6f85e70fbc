"""Many clips and many methods in one table, laid out as Table 1 of the paper: a row a method, a column a metric.

A suite is a TOML file (docs/metrics.md). What was measured before is taken from the folder of results, so that a run
that was cut short goes on where it stopped; a result counts as long as its clips and options are the same.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import InputError, MienError
from mien.evaluate.report import METRICS, Judges, Metric, Options, evaluate, load_networks
from mien.files import write_text

# Student's t for a two-sided interval of 95 % by degrees of freedom; beyond the list nearly the normal's.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NORMAL = 1.96


@dataclass(frozen=True)
class Job:
    """One cell of the suite: a method's output for one clip. `options` says how the two are compared."""

    method: str
    clip: str
    reference: Path
    output: Path
    options: Options
    pack: str | None = None

    def key(self) -> str:
        """What the result depends on: the files as they are now, and the options."""
        stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in (self.reference, self.output)]
        return hashlib.sha256(json.dumps([stamps, asdict(self.options), self.pack]).encode()).hexdigest()


@dataclass(frozen=True)
class Suite:
    """Clips, methods and their jobs, clip by clip in the order of the file."""

    name: str
    clips: tuple[str, ...]
    methods: tuple[str, ...]
    jobs: tuple[Job, ...]


def read_suite(path: str | Path) -> Suite:
    """Read a suite; paths in it are relative to its own folder. Raises InputError."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as a suite: {error}.") from error
    try:
        jobs = []
        for clip in data["clip"]:
            for method in data["method"]:
                options = Options(
                    size=int(data.get("size", 256)),
                    step=int(data.get("step", 1)),
                    top=int(data.get("top", 0)),
                    reference_panel=clip.get("panel"),
                    output_panel=method.get("panel"),
                )
                output = str(method["output"]).format(name=clip["name"], reference=clip["reference"])
                jobs.append(
                    Job(
                        str(method["name"]), str(clip["name"]), path.parent / clip["reference"], path.parent / output,
                        options, data.get("pack"),
                    )
                )  # fmt: skip
        clips, methods = ([str(entry["name"]) for entry in data[kind]] for kind in ("clip", "method"))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{path} is not a suite: something is wrong with {error}.") from error
    for kind, names in (("clips", clips), ("methods", methods)):
        if not names or len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
            raise InputError(f"{path} is not a suite: its {kind} need names, each its own, that can name a file.")
    return Suite(str(data.get("name", path.stem)), tuple(clips), tuple(methods), tuple(jobs))


def run_suite(
    suite: Suite, folder: Path, *, workers: int = 1, tick: Callable[[int], None] = lambda jobs: None
) -> dict[tuple[str, str], dict[str, Any]]:
    """Measure what is not yet in `folder`; returns the results by (method, clip), as `Evaluation.to_json` has them.

    A job that fails has `error`, a sentence, in place of metrics. `tick` is called with the number of jobs done.
    """
    results: dict[tuple[str, str], dict[str, Any]] = {}
    open_jobs = []
    for job in suite.jobs:
        known = _known(job, folder)
        if known is None:
            open_jobs.append(job)
        else:
            results[job.method, job.clip] = known
    tick(len(results))
    for job, result in _measure_all(open_jobs, workers):
        if "error" not in result:
            place = _place(job, folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, json.dumps({"key": job.key(), **result}) + "\n")
        results[job.method, job.clip] = result
        tick(1)
    return results


def _measure_all(jobs: Sequence[Job], workers: int) -> Any:
    if workers <= 1 or len(jobs) <= 1:
        yield from ((job, measure(job)) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(measure, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def measure(job: Job) -> dict[str, Any]:
    """One job's result with the series over time; what is wrong with its files becomes `error`."""
    try:
        judges = Judges(load_networks(job.pack))
        result = evaluate(job.reference, job.output, job.options, judges=judges)
    except MienError as error:
        return {"error": str(error)}
    return {**result.to_json(), "series": result.series}


def _place(job: Job, folder: Path) -> Path:
    return folder / "results" / job.method / f"{job.clip}.json"


def _known(job: Job, folder: Path) -> dict[str, Any] | None:
    try:
        stored = json.loads(_place(job, folder).read_text())
        return stored if stored.pop("key") == job.key() else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


@dataclass(frozen=True)
class Cell:
    """Mean over clips, half of the 95 % interval (None for one clip), the number of clips, and the place among the
    methods: 1 for the best, 2 for the second best, 0 for the others."""

    mean: float
    half: float | None
    count: int
    place: int = 0

    def text(self) -> str:
        """As in the table: `12.3 ±0.4`, the best in stars, the second best in underscores."""
        half = "" if self.half is None else f" ±{self.half:.3g}"
        mark = {1: "**", 2: "_"}.get(self.place, "")
        return f"{mark}{self.mean:.4g}{mark}{half}"


def summarise(suite: Suite, results: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, Cell]]:
    """Cells by method and metric's key. Metrics that no method has are left out."""
    table: dict[str, dict[str, Cell]] = {method: {} for method in suite.methods}
    for metric in METRICS:
        for method in suite.methods:
            found = (results.get((method, clip), {}).get("metrics", {}).get(metric.key) for clip in suite.clips)
            values = [value for value in found if value is not None]
            if values:
                table[method][metric.key] = Cell(float(np.mean(values)), interval(values), len(values))
        _rank(table, metric)
    return table


def interval(values: Sequence[float]) -> float | None:
    """Half of the 95 % confidence interval of a mean, by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    t = STUDENT[len(values) - 2] if len(values) - 2 < len(STUDENT) else NORMAL
    return float(t * np.std(values, ddof=1) / np.sqrt(len(values)))


def _rank(table: dict[str, dict[str, Cell]], metric: Metric) -> None:
    # Means over different numbers of clips are not compared, and the reference's own jitter is nobody's merit.
    cells = {method: cells[metric.key] for method, cells in table.items() if metric.key in cells}
    if len(cells) < 2 or len({cell.count for cell in cells.values()}) > 1 or metric.key == "jitter_reference":
        return
    order = sorted(cells, key=lambda method: cells[method].mean, reverse=metric.more_is_better)
    for place, method in enumerate(order[:2], start=1):
        cell = cells[method]
        table[method][metric.key] = Cell(cell.mean, cell.half, cell.count, place)


def markdown(suite: Suite, table: dict[str, dict[str, Cell]]) -> str:
    """The table in Markdown: a row a method, best in bold, second best in italics."""
    shown = [metric for metric in METRICS if any(metric.key in cells for cells in table.values())]
    head = [f"{m.label} {'↑' if m.more_is_better else '↓'}" for m in shown]
    lines = ["| method | clips | " + " | ".join(head) + " |", "| --- " * (len(shown) + 2) + "|"]
    for method in suite.methods:
        cells = table[method]
        count = max((cell.count for cell in cells.values()), default=0)
        texts = [cells[m.key].text() if m.key in cells else "-" for m in shown]
        lines.append(f"| {method} | {count} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def comma_separated(suite: Suite, table: dict[str, dict[str, Cell]]) -> str:
    """One line a method and metric: method, metric, mean, half of the 95 % interval, clips."""
    lines = ["method,metric,mean,half_interval_95,clips"]
    for method in suite.methods:
        for key, cell in table[method].items():
            half = "" if cell.half is None else f"{cell.half:.6g}"
            lines.append(f"{json.dumps(method)},{key},{cell.mean:.6g},{half},{cell.count}")
    return "\n".join(lines) + "\n"
