"""A folder of clips into a folder of streams: every clip once, whatever happens to workers or to the run itself.

Beside each `NAME.mien` stands `NAME.json`, the report of its encode with a key of all that the result depends on. It
is written last, so that it says "done" to a run that is started anew and to a worker that is given the clip again.
`manifest.jsonl` has a line a clip, done or failed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import InputError, OutputError
from mien.runtime.files import check_output_folder, lock, write_text
from mien.runtime.workers import Pool, run_all

if TYPE_CHECKING:
    from mien.options import EncodeOptions
    from mien.packs.pack import Pack

CLIP_SUFFIXES = (".mp4", ".mkv", ".mov", ".m4v", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class BatchJob:
    """One clip. `name`: its path within the folder; `output`: the `.mien` file; `pack`, `options`: how it is encoded;
    `fingerprint`: of the pack."""

    name: str
    clip: Path
    output: Path
    pack: str
    options: EncodeOptions
    fingerprint: str

    @property
    def report(self) -> Path:
        return self.output.with_suffix(".json")

    def key(self) -> str:
        """What the result depends on: the clip as it is now, the options and the pack."""
        stat = self.clip.stat()
        facts = [self.name, stat.st_size, stat.st_mtime_ns, self.options.key(), self.fingerprint]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def find_jobs(source: Path, target: Path, pack: str, options: EncodeOptions) -> list[BatchJob]:
    """A job for each video below `source`, in the order of their names. `target` is made where it is not there.

    Where two clips differ only in their endings, the ending stays in the outputs' names (`a.mp4.mien`), and so it does of
    `a.mp4.mov` where there is `a.mp4` too.
    Raises InputError (no folder, no clips), OutputError, PackError.
    """
    from mien.packs.pack import Pack

    if not os.path.isdir(source):
        raise InputError(f"{source} is not a folder of clips.")
    source, target = source.absolute(), target.absolute()
    _check_target(target)
    clips = []
    for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in CLIP_SUFFIXES and os.path.isfile(p)):
        hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
        if not hidden and (target == source or target not in path.parents):
            clips.append(path)
    if not clips:
        raise InputError(f"there are no videos in {source} ({', '.join(CLIP_SUFFIXES)}).")
    fingerprint = Pack.load(pack).fingerprint
    stems = [path.with_suffix("") for path in clips]
    jobs = []
    for path, stem in zip(clips, stems, strict=True):
        name = path.relative_to(source)
        alone = stems.count(stem) == 1 and stem not in clips
        output = target / (name.with_suffix(".mien") if alone else name.with_name(name.name + ".mien"))
        jobs.append(BatchJob(name.as_posix(), path, output, pack, options, fingerprint))
    ours = any("clip" in line and "state" in line for line in _read(target / MANIFEST))
    if (target / MANIFEST).exists() and not ours and (target / MANIFEST).stat().st_size:
        raise OutputError(
            f"{target / MANIFEST} is no manifest of mien batch, and one would be written there: name another folder."
        )
    for job in jobs:
        # Without its report a stream is what a run left that was killed, where there is a manifest.
        if job.output.exists() and not job.report.exists() and not ours:
            raise OutputError(f"{job.output} is there already, and mien batch did not write it: name another folder.")
        if _is_foreign(job.report):
            raise OutputError(
                f"{job.report} is no report of mien batch, and one would be written there: name another folder."
            )
    try:
        for folder in {target, *(job.output.parent for job in jobs)}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the output folder {error.filename} cannot be made: {error.strerror}.") from error
    return jobs


def _check_target(target: Path) -> None:
    """Raise OutputError where the folder is there and nothing can be written to it, or its name cannot be a folder's."""
    try:
        exists = target.exists()
    except OSError as error:
        raise OutputError(f"the output folder {target} cannot be written: {error.strerror}.") from error
    if exists:
        check_output_folder(target)


def encode_clip(job: BatchJob, device: str) -> dict[str, Any]:
    """A worker's work: encode one clip, unless that was done before. Returns its report. Raises as `mien.encode`."""
    known = finished(job)
    if known is not None:
        return known
    from mien.api import encode_with_report

    key = job.key()
    stream, report = encode_with_report(job.clip, options=job.options, pack=_pack(job), device=device)
    facts = report.to_json() | {"rate": stream.rates(), "clip": job.name, "key": key}
    stream.save(job.output)
    write_text(job.report, json.dumps(facts, indent=2) + "\n")
    return facts


@lru_cache(maxsize=1)
def _loaded(name: str, fingerprint: str) -> Pack:
    from mien.packs.pack import Pack

    found = Pack.load(name)
    if found.fingerprint != fingerprint:
        raise InputError(f"the pack {name!r} of this worker is another one than where the batch was started.")
    return found


def _pack(job: BatchJob) -> Pack:
    return _loaded(job.pack, job.fingerprint)


def _is_foreign(path: Path) -> bool:
    """Whether a file is there that is no report of a batch."""
    if not path.exists():
        return False
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        return True
    return not (isinstance(report, dict) and "key" in report)


def finished(job: BatchJob) -> dict[str, Any] | None:
    """The report of a clip that is done: same clip, options and pack, and the stream is there in full length."""
    try:
        report = json.loads(job.report.read_text())
        whole = job.output.stat().st_size == report["bytes"]["total"]
        return report if whole and report["key"] == job.key() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_batch(
    jobs: Sequence[BatchJob],
    target: Path,
    make_pool: Callable[[int], Pool],
    *,
    tick: Callable[[int], None] = lambda clips: None,
) -> list[dict[str, Any]]:
    """Encode what is not done yet; returns the manifest's lines in the order of `jobs`.

    `make_pool(count)`: workers that run `encode_clip`, asked for only where `count` > 0 clips are open. A clip that
    fails does not stop the others; it is tried again by the next run. `tick` is called with the clips that are done.
    Raises OutputError where another batch is at work on the folder.
    """
    with _alone(target):
        known = {job.name: line for job in jobs if (line := _before(job, target)) is not None}
        write_text(target / MANIFEST, _text(known[job.name] for job in jobs if job.name in known))
        tick(len(known))
        todo = [job for job in jobs if job.name not in known]
        if todo:
            with open(target / MANIFEST, "a", encoding="utf-8") as manifest:
                for outcome in run_all(todo, make_pool(len(todo))):
                    line = _line(outcome.job, target, outcome.value, outcome.error, outcome.attempts, outcome.worker)
                    known[outcome.job.name] = line
                    manifest.write(_text([line]))
                    manifest.flush()
                    tick(1)
        lines = [known[job.name] for job in jobs]
        write_text(target / MANIFEST, _text(lines))
        return lines


def _line(
    job: BatchJob, target: Path, report: dict[str, Any] | None, error: str, attempts: int, worker: str
) -> dict[str, Any]:
    line: dict[str, Any] = {"clip": job.name, "state": "failed" if report is None else "done"}
    if report is None:
        line["error"] = " ".join(error.split())
    else:
        line |= {
            "output": job.output.relative_to(target.absolute()).as_posix(),
            "frames": report["frames"],
            "fps": report["fps"],
            "bytes": report["bytes"]["total"],
            "seconds": report["seconds"]["total"],
            "psnr": report["psnr"].get("resynthesis"),
            "key": report["key"],
        }
    return line | {"attempts": attempts, "worker": worker, "finished": datetime.now(UTC).isoformat(timespec="seconds")}


def _before(job: BatchJob, target: Path) -> dict[str, Any] | None:
    """The manifest's line of a clip that an earlier run has done; made from the report where the run died before it."""
    report = finished(job)
    if report is None:
        return None
    for line in _read(target / MANIFEST):
        if line.get("clip") == job.name and line.get("key") == report["key"]:
            return line
    return _line(job, target, report, "", 1, "")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # the run was killed while it wrote this line
            continue
        if isinstance(line, dict):
            yield line


def _text(lines: Any) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Two runs on one folder would do clips twice. The lock goes with its process, however that ends."""
    with open(target / ".batch.lock", "w") as file:
        if not lock(file):
            raise OutputError(f"another mien batch is at work on {target}.")
        yield
        os.unlink(file.name)
