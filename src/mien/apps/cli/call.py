"""`mien call`: two people, each drives a face at the other's."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.apps.cli.common import Calibrate, Mark, Sign, progress_bars
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.apps.telepresence.call.introduction import Hello
    from mien.apps.telepresence.call.statistics import CallStatistics


def call(
    face: Annotated[Path, typer.Option("--person", metavar="P.person", help="Your face: 204,800 bytes at most.")],
    join: Annotated[
        str | None,
        typer.Option("--join", metavar="LINE", help="The invitation that you were sent; - reads it from stdin."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="PORT", help="Hand the invitation to whoever connects to this port."),
    ] = None,
    connect: Annotated[
        str | None, typer.Option("--connect", metavar="HOST:PORT", help="Get the invitation from an end that listens.")
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Listen at this address of this machine; all: at every one."),
    ] = "127.0.0.1",
    stun: Annotated[
        str | None, typer.Option("--stun", metavar="HOST:PORT", help="A STUN server, to get through a router.")
    ] = None,
    camera: Annotated[int | None, typer.Option(min=0, metavar="N", help="A camera's number; 0 if no --input.")] = None,
    clip: Annotated[
        Path | None,
        typer.Option("--input", metavar="CLIP", help="A clip and its sound instead of camera and microphone."),
    ] = None,
    microphone: Annotated[str | None, typer.Option("--microphone", metavar="NAME", help="Which one.")] = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Send sound, and play what comes.")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Record them: .mp4, .mkv or .mov.")
    ] = None,
    statistics: Annotated[
        Path | None, typer.Option("--json", metavar="STATS", help="Write rates, losses and freezes there.")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Show the other end's person without asking.")] = False,
    calibrate: Calibrate = None,
    sign: Sign = True,
    watermark: Mark = True,
) -> None:
    """Call someone: each sees the other's .person move, at 2 to 4 kbit/s, and hears them (extra `call`).

    One end prints an invitation, one line of text: send it to the other end, who joins with it and sends its answer
    back. Or one end listens and the other connects. Your person is sent once, and shown only if they accept it.

    Nothing listens beyond this machine unless --host names an address of it; no server is asked unless --stun names
    one. The invitation holds the key of the call: send it over a line that you trust.

    Example: mien call --person me.person --host 192.168.1.5

    Example: mien call --person me.person --host 192.168.1.6 --join -

    Example: mien call --person me.person --input clip.mp4 --connect 127.0.0.1:7861 --output them.mp4
    """
    from mien.apps.telepresence.call.line import require_aiortc

    if sum(way is not None for way in (join, listen, connect)) > 1:
        raise InputError("give one of --join, --listen and --connect.")
    require_aiortc()
    from mien.apps.telepresence.call.run import CallPlan, Meeting, prepare, run
    from mien.apps.telepresence.marks import Marks
    from mien.runtime.files import check_output, check_outputs_differ

    if output is not None:
        check_output(output, (".mp4", ".mkv", ".mov"), (clip, face))
    if statistics is not None:
        check_output(statistics, (), (clip, face))
    check_outputs_differ(output, statistics)
    meeting = Meeting(join, listen, connect, host, stun)
    plan = CallPlan(face, meeting, camera, clip, microphone, sound, output, calibrate, Marks(sign, watermark))
    with progress_bars() as progress:
        prepared = prepare(plan, progress)
    done = asyncio.run(run(plan, prepared, _Terminal(accept)))
    _report(done, statistics)


def _report(done: CallStatistics, statistics: Path | None) -> None:
    """Write the figures of a call, and say them in a sentence."""
    from mien.runtime.files import write_text

    if statistics is not None:
        write_text(statistics, json.dumps(done.as_json(), indent=2) + "\n")
    values: dict[str, Any] = done.as_json()
    print(
        f"\n{values['video_seconds']} s of video came, {values['fps']} frames/s, longest freeze "
        f"{values['longest_freeze_s']} s, face {values['came']['face_kbit_s']} kbit/s",
        file=sys.stderr,
    )


class _Terminal:
    """The user at a terminal: lines on stdout, questions and the state of things on stderr."""

    def __init__(self, accept: bool) -> None:
        self._accept = accept

    def invite(self, line: str) -> None:
        _say("send this line to the other end, who starts: mien call --person THEIRS.person --join -")
        print(line, flush=True)

    def reply(self, line: str) -> None:
        from mien.apps.telepresence.call.line import PATIENCE

        _say(f"send this line back at once: the call waits {PATIENCE:.0f} s until they have pasted it.")
        print(line, flush=True)

    def read(self, what: str) -> str:
        _say(f"paste {what}, and press Enter:")
        line = sys.stdin.readline()
        if not line.strip():
            raise InputError(f"{what} was not given.")
        return line

    def ask(self, hello: Hello, kept: bool) -> bool:
        about = f"the other end shows {hello.name!r} ({hello.size:,} bytes, SHA-256 {hello.sha256[:16]}...)"
        if kept:
            about += ", whom you accepted before"
        if self._accept:
            _say(f"{about}.")
            return True
        print(f"{about}. See it? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def tick(self, statistics: CallStatistics) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{statistics.line()}", end="", file=sys.stderr, flush=True)
        else:
            _say(statistics.line())

    def notify(self, sentence: str) -> None:
        _say(sentence)


def _say(sentence: str) -> None:
    print(("\r\x1b[K" if sys.stderr.isatty() else "") + sentence, file=sys.stderr, flush=True)
