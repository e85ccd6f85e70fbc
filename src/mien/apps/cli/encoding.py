"""Encoding with progress bars, and its work folder, for the commands that encode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.apps.cli.common import checked_device, pack_of, progress_bars, say_notes
from mien.errors import Interrupted

if TYPE_CHECKING:
    from mien.format.person import Person
    from mien.format.stream import Stream
    from mien.options import EncodeOptions
    from mien.runtime.stage_cache import StageCache


def encode_with_bars(
    clip: Path,
    pack: str,
    options: EncodeOptions,
    device: str,
    *,
    cache: StageCache | None = None,
    inversions: Path | None = None,
    person: Person | None = None,
) -> tuple[Stream, dict[str, Any]]:
    """Encode with progress bars; returns the stream with its sound, and the report."""
    from mien.media.video import probe

    where = checked_device(device)
    say_notes(probe(clip))  # what is wrong with a file is said before the networks are loaded
    from mien.api import encode_with_report

    with progress_bars() as progress:
        stream, report = encode_with_report(
            clip, options=options, pack=pack, person=person, device=where, inversions=inversions, progress=progress,
            cache=cache,
        )  # fmt: skip
    return stream, report.to_json()


@contextmanager
def resumable(
    clip: Path, output: Path, pack: str, device: str, options: EncodeOptions, also: str = ""
) -> Iterator[StageCache]:
    """The work folder of this very encode; Ctrl-C says that it is kept. `also`: what else its result depends on."""
    from mien.media.video import probe

    where = checked_device(device)
    probe(clip)  # a bad file is said before the networks are loaded
    from mien.runtime.device import resolve_device
    from mien.runtime.stage_cache import encode_key, interval, work_folder

    key = encode_key(clip, pack_of(pack).fingerprint, str(resolve_device(where)), options.key() + also)
    with work_folder(output, key, interval()) as work:
        try:
            yield work
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; what was finished is kept in {work.folder}, and the same command goes on from there."
            ) from None
