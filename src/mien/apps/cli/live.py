"""`mien live`: a camera, a clip or a stream drives a face, now."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps.cli.common import Calibrate, Mark, Sign, pack_file, progress_bars
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.apps.telepresence.face import LiveFace
    from mien.apps.telepresence.outputs import MotionRecord, Output
    from mien.apps.telepresence.sources import Source
    from mien.apps.telepresence.statistics import LiveStatistics
    from mien.format.stream import Stream


def live(
    face: Annotated[
        Path, typer.Option("--person", metavar="P", help="Whose face: a .person, a .mien or a portrait (an image).")
    ],
    camera: Annotated[int | None, typer.Option(min=0, metavar="N", help="A camera's number; 0 if no --input.")] = None,
    given: Annotated[
        str | None,
        typer.Option("--input", metavar="CLIP", help="A clip, run at its own rate, or a stream: rtsp://HOST/..."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OUT", help="Record: a video (.mp4, .mkv, .mov) or the numbers (.mien)."
        ),
    ] = None,
    virtual_camera: Annotated[
        bool, typer.Option("--virtual-camera", help="Into a virtual camera, for meetings (extra `camera`).")
    ] = False,
    statistics: Annotated[
        Path | None, typer.Option("--json", metavar="STATS", help="Write rates and delays there.")
    ] = None,
    calibrate: Calibrate = None,
    pack: Annotated[
        str | None,
        typer.Option(
            "--pack",
            metavar="PACK",
            help="The pack of the face: that which its file names, mini for an image, if not given.",
        ),
    ] = None,
    sign: Sign = True,
    watermark: Mark = True,
) -> None:
    """Drive a face with a camera, a clip or a stream, with little delay.

    Look into the camera with a calm face for the first three seconds, unless it is your own face that is shown. Frames
    that are late are dropped, never queued; a recording keeps the clock. Ctrl-C ends it, and keeps what was recorded.
    Shown in a window where there is a desktop.

    Example: mien live --camera 0 --person me.person

    Example: mien live --input clip.mp4 --person portrait.png --output out.mp4

    Example: mien live --input rtsp://192.168.1.20/stream --person me.person
    """
    from mien.apps.telepresence.face import live_face, steps_of
    from mien.apps.telepresence.marks import Marks
    from mien.apps.telepresence.outputs import VirtualCamera, check_live_output
    from mien.apps.telepresence.session import LiveOptions, LiveSession
    from mien.apps.telepresence.sources import is_address, live_source
    from mien.runtime.files import check_output, check_outputs_differ, write_text
    from mien.runtime.workers import leave_a_core

    clip = None if given is None or is_address(given) else Path(given)
    read = (clip, face, pack_file(pack))
    check_live_output(output, read)
    if statistics is not None:
        check_output(statistics, (), read)
    check_outputs_differ(output, statistics)
    source = live_source(camera, given)
    shown_at: list[Output] = [VirtualCamera()] if virtual_camera else []
    leave_a_core()
    with progress_bars() as progress, progress.stage("learn to read the face", steps_of(face), "steps") as tick:
        driven = live_face(face, pack, tick)
    outputs, record = _outputs(output, clip, shown_at, driven, source)
    session = LiveSession(
        source, driven, [*outputs, record], LiveOptions(calibrate, Marks(sign, watermark)), _tick, _notify
    )
    done = session.statistics
    try:
        session.run()
    except (KeyboardInterrupt, BrokenPipeError) as end:  # the user's end, and that of the window
        if not done.shown and isinstance(end, KeyboardInterrupt):
            raise
    if not done.shown:
        raise InputError("the source gave no frames.")
    _record(driven, record, source, done, output)
    if statistics is not None:
        write_text(statistics, json.dumps(done.as_json(), indent=2) + "\n")
    print(f"\n{_summary(done)}", file=sys.stderr)


def _outputs(
    output: Path | None, clip: Path | None, cameras: list[Output], face: LiveFace, source: Source
) -> tuple[list[Output], MotionRecord]:
    from mien.apps.telepresence.outputs import MotionRecord, VideoFile, Window, has_display

    found = [*cameras]
    if output is not None and output.suffix.lower() != ".mien":
        found.append(VideoFile(output, source.fps, clip))
    if has_display():
        found.append(Window(face.still.resolution, source.fps))
    elif not found and output is None:
        _notify("no desktop with ffplay or mpv is here, so nothing is shown: --output OUT or --virtual-camera.")
    return found, MotionRecord()


def _record(face: LiveFace, record: MotionRecord, source: Source, done: LiveStatistics, output: Path | None) -> None:
    """Code what was shown: the rate that it takes on a line, and OUT.mien where that was asked for."""
    from mien.format.rate_control import transcode

    stream: Stream = transcode(face.stream(record.rows, source.fps))
    done.kbit_s = stream.rates()["frames"] / 1000
    if output is not None and output.suffix.lower() == ".mien":
        stream.save(output)


def _summary(done: LiveStatistics) -> str:
    values = done.as_json()
    return (
        f"{values['fps']} frames/s of {values['source_fps']}, delay {values['delay_ms']} ms, "
        f"{done.kbit_s:.2f} kbit/s, {values['dropped']} of {values['frames']} frames dropped"
    )


def _tick(statistics: LiveStatistics) -> None:
    print(f"\r\x1b[K{statistics.line()}" if sys.stderr.isatty() else statistics.line(),
          end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)  # fmt: skip


def _notify(sentence: str) -> None:
    print(("\r\x1b[K" if sys.stderr.isatty() else "") + sentence, file=sys.stderr, flush=True)
