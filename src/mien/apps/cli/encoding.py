"""Encoding with progress bars, and its work folder, for the commands that encode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.apps.cli.common import checked_device, pack_of, progress_bars
from mien.errors import Interrupted

if TYPE_CHECKING:
    from mien.format.person import Person
    from mien.format.stream import Stream
    from mien.runtime.stage_cache import StageCache


def encode_with_bars(
    clip: Path,
    pack: str,
    aligned: bool,
    tune: bool,
    start: float,
    duration: float | None,
    device: str,
    seed: int,
    face: int | None,
    sound: bool,
    optimizer: str = "gauss-newton",
    channels: str = "pack",
    work: StageCache | None = None,
    inversions: Path | None = None,
    person_size: int | None = None,
    person: Person | None = None,
    inversion: str = "encoder",
    effort: float = 1.0,
) -> tuple[Stream, dict[str, Any]]:
    """Encode with progress bars; returns the stream with its sound, and the report."""
    from mien.media.video import probe

    where = checked_device(device)
    probe(clip)  # a bad file is said before the networks are loaded
    from mien.api import encode_with_report

    with progress_bars() as progress:
        stream, report = encode_with_report(
            clip,
            pack=pack,
            aligned=aligned,
            tune=tune,
            start=start,
            duration=duration,
            device=where,
            seed=seed,
            face=face,
            sound=sound,
            optimizer=optimizer,
            channels=channels,
            inversions=inversions,
            person_size=person_size,
            person=person,
            inversion=inversion,
            effort=effort,
            progress=progress,
            work=work,
        )
    return stream, report.to_json()


@contextmanager
def resumable(clip: Path, output: Path, pack: str, device: str, *options: Any) -> Iterator[StageCache]:
    """The work folder of this very encode; Ctrl-C says that it is kept."""
    from mien.media.video import probe

    where = checked_device(device)
    probe(clip)  # a bad file is said before the networks are loaded
    from mien.runtime.device import resolve_device
    from mien.runtime.stage_cache import encode_key, interval, work_folder

    key = encode_key(clip, pack_of(pack).fingerprint, str(resolve_device(where)), options)
    with work_folder(output, key, interval()) as work:
        try:
            yield work
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; what was finished is kept in {work.folder}, and the same command goes on from there."
            ) from None
