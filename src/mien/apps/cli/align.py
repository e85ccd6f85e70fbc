"""`mien align`: stage 1 alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.apps.cli.common import Duration, Face, Output, Start, progress_bars, say_notes


def align(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video of a talking head.")],
    output: Output,
    size: Annotated[int, typer.Option(min=16, max=2048, help="Side of the crops in pixels.")] = 256,
    start: Start = 0.0,
    duration: Duration = None,
    face: Face = None,
    report: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="Write angles, corners and residuals there.")
    ] = None,
) -> None:
    """Write the stabilised crops I_t that the other stages work on (stage 1 alone).

    .mp4 is H.264, .mkv lossless. `mien plot` draws what --json wrote.

    Example: mien align clip.mp4 -o crops.mkv --json crops.json
    """
    from mien.media.video import VIDEO_SUFFIXES, read_video, write_video
    from mien.method.stage1_align.align import align as run
    from mien.runtime.files import check_output, write_text

    check_output(output, VIDEO_SUFFIXES, (clip,))
    if report is not None:
        check_output(report, (".json",), (clip,))
    source = read_video(clip, start, duration)
    say_notes(source)
    with progress_bars() as progress, progress.stage("align", source.frame_count) as tick:
        found = run(source, float(source.fps), size=size, face=face, tick=tick)
    span = (start, duration) if source.cut else (0.0, None)
    count = write_video(output, found.crops, source.fps, clip, *span)
    if report is not None:
        from mien.apps.cli.plots import alignment_facts

        write_text(report, json.dumps(alignment_facts(found, source.fps)) + "\n")
    unseen = int(found.bridged.sum()), int(found.lost.sum())
    print(f"{output}: {count} crops of {size}x{size}; face out of sight in {sum(unseen)} ({unseen[0]} bridged)")
