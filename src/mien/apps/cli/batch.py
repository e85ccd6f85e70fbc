"""`mien batch`: a folder of clips into a folder of streams, on this machine or on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps.cli.common import (
    Aligned,
    Device,
    Duration,
    Effort,
    Inversion,
    Method,
    Minutes,
    Optimizer,
    PackName,
    PersonSize,
    Ray,
    Seed,
    Size,
    Sound,
    Start,
    Tune,
    checked_device,
    person_bytes,
    progress_bars,
)
from mien.errors import InputError, MienError

if TYPE_CHECKING:
    from mien.runtime.workers import Pool, Work

Jobs = Annotated[int | None, typer.Option(min=1, help="How many workers; one a GPU, else one a core, if not given.")]


def batch(
    source: Annotated[Path, typer.Argument(metavar="IN_DIR", help="A folder of clips; folders within count too.")],
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Where the .mien files and the manifest go.")],
    ray: Ray = None,
    jobs: Jobs = None,
    pack: PackName = "mini",
    aligned: Aligned = False,
    tune: Tune = True,
    start: Start = 0.0,
    duration: Duration = None,
    device: Device = "auto",
    seed: Seed = 0,
    sound: Sound = True,
    method: Method = "mien",
    size: Size = None,
    optimizer: Optimizer = None,
    inversion: Inversion = "encoder",
    effort: Effort = 1.0,
    minutes: Minutes = None,
    person_size: PersonSize = None,
) -> None:
    """Encode every clip of a folder, on all cores or GPUs or on a Ray cluster.

    OUT_DIR/manifest.jsonl has a line a clip. What is done stays done: started again, only the rest is encoded. A clip
    that fails does not stop the others; the exit code is then 1. On a cluster, both folders must have the same path
    on every machine.

    Example: mien batch clips streams

    Example: mien batch clips streams --ray auto --no-tune
    """
    from mien.apps.batch.batch import MANIFEST, encode_clip, find_jobs, run_batch

    if ray is not None and device != "auto":
        raise InputError("--device is for this machine: workers of a Ray cluster take what they are given.")
    where = checked_device(device)
    from mien.options import EncodeOptions

    options = EncodeOptions.of(
        method, aligned=aligned, tune=tune, person_size=person_bytes(person_size), inversion=inversion, effort=effort,
        start=start, duration=duration, seed=seed, sound=sound, optimizer=optimizer, size=size, minutes=minutes,
    )  # fmt: skip
    found = find_jobs(source, target, pack, options)
    with progress_bars() as progress, progress.stage("batch", len(found), "clips") as tick:
        lines = run_batch(found, target, lambda count: make_pool(encode_clip, count, ray, jobs, where), tick=tick)
    failed = [line for line in lines if line["state"] == "failed"]
    for line in failed:
        print(f"{line['clip']}: failed: {line['error']}")
    print(f"{target / MANIFEST}: {len(lines) - len(failed)} clips done, {len(failed)} failed")
    if failed:
        raise MienError(f"{len(failed)} of {len(lines)} clips failed; {target / MANIFEST} says why.")


def make_pool(work: Work, count: int, ray: str | None, jobs: int | None, device: str = "auto") -> Pool:
    """Make workers for `count` jobs: of this machine, or of the Ray cluster at the address `ray`."""
    limit = min(count, jobs) if jobs else None
    if ray is not None:
        from mien.apps.batch.cluster import RayPool

        return RayPool(work, ray, limit or count)
    from mien.runtime.workers import LocalPool, local_devices

    return LocalPool(work, local_devices(device, limit)[:count])
