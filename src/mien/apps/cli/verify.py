"""`mien verify`: is a video one of ours, or does it say that it is synthetic?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps.cli.common import progress_bars

if TYPE_CHECKING:
    from mien.apps.verification import Verification

NOT_FOUND = 3  # exit code


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any video.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    stream: Annotated[
        Path | None, typer.Option(metavar="FILE.mien", help="Also tell whether it was rendered from this stream.")
    ] = None,
) -> None:
    """Say whether a video says that it is synthetic: by the invisible mark of what mien renders, its metadata's comment
    or its content credentials.

    Exit code 0: it does. 3: nothing was found, which does not make it a recording. The p-value is the most that
    chance would find a mark as clear as this with, in a video without one; up to one in a million counts as found.

    Example: mien verify clip.mp4

    Example: mien verify clip.mp4 --json
    """
    from mien.apps.provenance import file_hash
    from mien.apps.verification import verify as read_back
    from mien.format.stream import Stream

    asked = None if stream is None else file_hash(Stream.load(stream))
    with progress_bars() as progress:
        found = read_back(file, asked, progress)
    print(json.dumps(found.facts(), indent=2) if as_json else _text(found))
    if not found.synthetic:
        raise typer.Exit(NOT_FOUND)


def _text(found: Verification) -> str:
    mark, signed = found.watermark, found.c2pa
    said = f"found, p = {mark.p_value:.1e}" if mark.found else f"not found (p = {mark.p_value:.2g})"
    if mark.found:
        said += f", frames {mark.frames[0]} to {mark.frames[1] - 1}"
    rows = [("mark", said)]
    if mark.stream_p_value is not None:
        rows.append(("stream", f"p = {mark.stream_p_value:.1e} that the mark is not of this stream by chance"))
    nothing = "none" if found.c2pa_read else "not read (needs .mp4, .mov or .m4v and the extra `provenance`)"
    says = " and say that a model made it" if signed and signed.synthetic else ""
    rows.append(("c2pa", f"{signed.state.lower()}, signed by {signed.issuer}{says}" if signed else nothing))
    rows.append(("comment", found.comment or "none"))
    verdict = "synthetic" if found.synthetic else "nothing says that it is synthetic; that does not make it a recording"
    return "\n".join(f"{name:<10}{text}" for name, text in [*rows, ("verdict", verdict)])
