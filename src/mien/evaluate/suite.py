"""Many clips and many methods, measured once each: a suite is a TOML file (docs/guide/evaluate.md).

What was measured before is taken from the folder of results, so that a run that was cut short goes on where it
stopped; a result counts as long as its clips, options and judges are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError, MienError
from mien.evaluate.evaluate import Options, evaluate
from mien.evaluate.judges import JudgeModels
from mien.evaluate.metrics import dlib_face, openface
from mien.evaluate.metrics.efficientnet import weights_file
from mien.evaluate.networks import MetricNetworks, gather, stamps
from mien.evaluate.registry import BY_KEY, PUPPETEERING, RESYNTHESIS
from mien.packs.pack import locate
from mien.runtime.files import atomic_path, read_text, write_text
from mien.runtime.workers import Pool, run_all

VERSION = 3  # of the stored results
LAYOUTS = ("metrics", "clips")
Features = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class SuiteJob:
    """One cell of the suite: a method's output for one clip. `options` says how the two are compared, `identity` whose
    face a puppet should have, `tables` where OpenFace's of both are, `own_reference` whether the method names what it is
    compared with."""

    method: str
    clip: str
    reference: Path
    output: Path
    options: Options
    pack: str | None = None
    identity: Path | None = None
    tables: tuple[Path, Path] | None = None
    own_reference: bool = False

    def key(self) -> str:
        """Hash what the result depends on: files, networks and judges as they are now, and the options."""
        files = [self.reference, self.output, *([self.identity] if self.identity else []), *(self.tables or ())]
        seen = [(str(path), *_stamp(path)) for path in files]
        judges = [
            *stamps(self.pack),
            openface.program(),
            dlib_face.model_folder() is not None,
            weights_file() is not None,
        ]
        text = json.dumps([VERSION, seen, asdict(self.options), self.pack, str(self.identity), judges])
        return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: Path) -> list[Any]:
    """Size in bytes and time of the last change in ns: of a file, or of each file in a folder, after its name."""
    if not path.is_dir():
        return [path.stat().st_size, path.stat().st_mtime_ns]
    # A folder's own figures do not change where one of its files is written anew in its place.
    return [(file.name, *_stamp(file)) for file in sorted(path.iterdir()) if file.is_file()]


@dataclass(frozen=True)
class Suite:
    """Clips, methods and their jobs, clip by clip in the order of the file.

    `columns`: the metrics that the table shows, all where empty. `layout`: a column a metric (`metrics`, as Tables 1
    and 2), or a column a clip of the one metric in `columns` (`clips`, as Table 3). `note`: what the page says first.
    """

    name: str
    clips: tuple[str, ...]
    methods: tuple[str, ...]
    jobs: tuple[SuiteJob, ...]
    columns: tuple[str, ...] = ()
    layout: str = "metrics"
    note: str = ""

    @property
    def table(self) -> int:
        """Which of the paper's tables the suite's rows are of."""
        return PUPPETEERING if any(job.identity for job in self.jobs) else RESYNTHESIS


@dataclass
class Result:
    """What was measured of one job: `facts` as `Evaluation.to_json` has them (or `error`, a sentence, in their place),
    `series` over time, None where there is no value, and the `features` of the Frechet distances."""

    facts: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[float | None]] = field(default_factory=dict)
    features: Features = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        return self.facts.get("error")


MEASURED = "results"  # the folder of what was measured, within that of a suite's results
SUITE_KEYS = ("name", "size", "step", "top", "pack", "note", "columns", "layout", "clip", "method")
CLIP_KEYS = ("name", "reference", "panel", "output_panel", "identity", "identity_panel", "openface_csv")
METHOD_KEYS = ("name", "output", "reference", "reference_panel", "reference_openface_csv", "panel", "openface_csv")
PANEL_KEYS = ("panel", "output_panel", "reference_panel", "identity_panel")

Results = dict[tuple[str, str], Result]  # by (method, clip)


def read_suite(path: str | Path) -> Suite:
    """Read a suite; paths in it are relative to its own folder. Raises InputError."""
    path = Path(path)
    try:
        data = tomllib.loads(read_text(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as a suite: {error}.") from error
    try:
        _check_keys(path, data)
        jobs = [_job(path.parent, data, clip, method) for clip in data["clip"] for method in data["method"]]
        clips, methods = ([str(entry["name"]) for entry in data[kind]] for kind in ("clip", "method"))
        columns, layout = tuple(data.get("columns", ())), str(data.get("layout", LAYOUTS[0]))
        unknown = [str(key) for key in columns if key not in BY_KEY]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is not a suite: something is wrong with {error}.") from error
    if unknown:
        raise InputError(f"{path} is not a suite: there is no metric {unknown[0]!r} for a column.")
    if layout not in LAYOUTS or (layout == "clips" and len(columns) != 1):
        raise InputError(f"{path} is not a suite: its layout is metrics, or clips with one metric in columns.")
    for kind, names in (("clips", clips), ("methods", methods)):
        if not names or len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
            raise InputError(f"{path} is not a suite: its {kind} need names, each its own, that can name a file.")
    name, note = str(data.get("name", path.stem)), str(data.get("note", "")).strip()
    return Suite(name, tuple(clips), tuple(methods), tuple(jobs), columns, layout, note)


def _check_keys(path: Path, data: dict[str, Any]) -> None:
    """Raise InputError for a key that a suite does not have, a panel that is no number, or a pack that is not here."""
    tables: list[tuple[dict[str, Any], tuple[str, ...]]] = [(data, SUITE_KEYS)]
    tables += [(clip, CLIP_KEYS) for clip in data.get("clip", ())]
    tables += [(method, METHOD_KEYS) for method in data.get("method", ())]
    for table, known in tables:
        for key, value in table.items():
            if key not in known:
                raise InputError(
                    f"{path} is not a suite: it has a key {key!r}, and the keys there are {', '.join(known)}."
                )
            if key in PANEL_KEYS and (type(value) is not int or value < 0):
                raise InputError(
                    f"{path} is not a suite: {key} of {table.get('name')!r} is a whole number from 0 on, not {value!r}."
                )
    pack = data.get("pack")
    if pack is not None and not os.path.isfile(locate(str(pack))):
        raise InputError(f"{path} is not a suite: there is no pack {pack!r}.")


def _job(folder: Path, data: dict[str, Any], clip: dict[str, Any], method: dict[str, Any]) -> SuiteJob:
    """Read what the suite says of one clip and one method. A method's own `reference`, with its panel and its table,
    stands in place of the clip's."""

    def fill(text: str) -> Path:
        return folder / str(text).format(name=clip["name"], reference=clip["reference"])

    own = "reference" in method
    options = Options(
        size=int(data.get("size", 256)),
        step=int(data.get("step", 1)),
        top=int(data.get("top", 0)),
        reference_panel=method.get("reference_panel") if own else clip.get("panel"),
        output_panel=method.get("panel", clip.get("output_panel") if method["output"] == "{reference}" else None),
        identity_panel=clip.get("identity_panel"),
    )
    theirs = method.get("reference_openface_csv") if own else clip.get("openface_csv")
    tables = None
    if theirs is not None and "openface_csv" in method:
        tables = fill(theirs) if own else folder / str(theirs), fill(method["openface_csv"])
    return SuiteJob(
        str(method["name"]),
        str(clip["name"]),
        fill(method["reference"]) if own else folder / clip["reference"],
        fill(method["output"]),
        options,
        data.get("pack"),
        folder / str(clip["identity"]) if "identity" in clip else None,
        tables,
        own,
    )


def run_suite(
    suite: Suite, folder: Path, *, workers: int = 1, make_pool: Callable[[int], Pool] | None = None,
    tick: Callable[[int], None] = lambda jobs: None,
) -> Results:  # fmt: skip
    """Measure what is not yet in `folder`; returns all results. `tick` is called with the number of jobs done.

    `make_pool(count)`: workers that run `measure_on`, in place of `workers` processes of this machine."""
    results: Results = {}
    open_jobs = []
    for job in suite.jobs:
        known = _known(job, folder)
        if known is None:
            open_jobs.append(job)
        else:
            results[job.method, job.clip] = known
    tick(len(results))
    if make_pool is not None and open_jobs:
        measured = _measure_by(make_pool(len(open_jobs)), open_jobs)
    else:
        measured = _measure_all(open_jobs, workers)
    for job, result in measured:
        if result.error is None:
            _store(job, result, folder)
        results[job.method, job.clip] = result
        tick(1)
    return results


def _measure_by(pool: Pool, jobs: Sequence[SuiteJob]) -> Iterator[tuple[SuiteJob, Result]]:
    for outcome in run_all(jobs, pool):
        yield outcome.job, Result({"error": outcome.error}) if outcome.error else outcome.value


def _measure_all(jobs: Sequence[SuiteJob], workers: int) -> Iterator[tuple[SuiteJob, Result]]:
    if workers <= 1 or len(jobs) <= 1:
        yield from ((job, measure(job)) for job in jobs)
        return
    threads = max((os.cpu_count() or 1) // workers, 1)
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_share_cores, initargs=(threads,)
    ) as pool:
        futures = {pool.submit(measure, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _share_cores(threads: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def measure(job: SuiteJob, networks: MetricNetworks | None = None) -> Result:
    """Measure one job; what is wrong with its files becomes `error`. `networks`: if not those that are here."""
    try:
        found = evaluate(
            job.reference,
            job.output,
            job.options,
            networks=networks or gather(job.pack),
            judges=JudgeModels.installed(),
            tables=job.tables,
            identity=job.identity,
        )
    except MienError as error:
        return Result({"error": str(error)})
    series = {
        key: [round(float(v), 4) if np.isfinite(v) else None for v in values] for key, values in found.series.items()
    }
    return Result(found.to_json(), series, found.features)


def measure_on(job: SuiteJob, device: str) -> Result:
    """Measure one job on a pool's worker; networks run on the CPU whatever the `device`."""
    del device
    return measure(job)


def _place(job: SuiteJob, folder: Path) -> Path:
    return folder / MEASURED / job.method / f"{job.clip}.json"


def _store(job: SuiteJob, result: Result, folder: Path) -> None:
    place = _place(job, folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{key}.{side}": pair[side] for key, pair in result.features.items() for side in (0, 1)}
    with atomic_path(place.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    # Last, since it is what says that the job is done.
    write_text(place, json.dumps({"key": job.key(), "facts": result.facts, "series": result.series}) + "\n")


def _known(job: SuiteJob, folder: Path) -> Result | None:
    place = _place(job, folder)
    try:
        stored = json.loads(place.read_text())
        if stored["key"] != job.key():
            return None
        with np.load(place.with_suffix(".npz"), allow_pickle=False) as arrays:
            names = {name.rpartition(".")[0] for name in arrays.files}
            features = {name: (arrays[f"{name}.0"], arrays[f"{name}.1"]) for name in names}
        return Result(stored["facts"], stored["series"], features)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
