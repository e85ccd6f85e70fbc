"""A call from its command: what is checked before any work, how the ends meet, and where things go."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mien.apps.telepresence.call.daemon_thread import in_daemon_thread
from mien.apps.telepresence.call.introduction import Hello, sendable
from mien.apps.telepresence.call.line import ALL, LOOPBACK, Line
from mien.apps.telepresence.call.recording import CallRecording
from mien.apps.telepresence.call.session import CallEnds, CallSession
from mien.apps.telepresence.call.signalling import (
    ANSWER,
    INVITATION,
    Visit,
    exchange_as_server,
    from_code,
    host_and_port,
    to_code,
)  # fmt: skip
from mien.apps.telepresence.call.sound import HeardSound, SoundTrack, clip_sound, microphone_sound
from mien.apps.telepresence.call.statistics import CallStatistics
from mien.apps.telepresence.face import DrawnFace, LiveFace, drawn_face, driven_face
from mien.apps.telepresence.marks import Marks
from mien.apps.telepresence.outputs import Output, Window, has_display
from mien.apps.telepresence.session import LiveOptions
from mien.apps.telepresence.sources import Source, camera_or_clip
from mien.errors import InputError
from mien.format.person import SUFFIX, Person
from mien.method.live_motion import ReaderOptions
from mien.runtime.progress import Progress

SWITCH = 0.0003  # seconds a thread may hold the interpreter while others wait: drawing needs it often and briefly


@dataclass(frozen=True)
class Meeting:
    """How the ends meet: `join` an invitation ("-": read it), `listen` at a port, `connect` to one, or print an
    invitation and read the answer. `host`: the address of this machine to listen at; `stun`: a server, or None."""

    join: str | None = None
    listen: str | None = None
    connect: str | None = None
    host: str = LOOPBACK
    stun: str | None = None


@dataclass(frozen=True)
class CallPlan:
    """What was asked for; see `mien call --help`."""

    face: Path
    meeting: Meeting
    camera: int | None = None
    clip: Path | None = None
    microphone: str | None = None
    sound: bool = True
    output: Path | None = None
    calibrate: float | None = None
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True)
class Prepared:
    """The own face, ready to be driven, its file's bytes and name; what drives it, and its sound."""

    face: LiveFace
    data: bytes
    name: str
    source: Source
    sound: Iterator[Any]


class Terminal(Protocol):
    """The user."""

    def invite(self, line: str) -> None:
        """Show the invitation, to be sent to the other end."""
        ...

    def reply(self, line: str) -> None:
        """Show the answer, to be sent back."""
        ...

    def read(self, what: str) -> str:
        """Read a line. Raises InputError at the end of the input."""
        ...

    def ask(self, hello: Hello, kept: bool) -> bool:
        """Whether the other end's person shall be shown, who is here from an earlier call where `kept`."""
        ...

    def tick(self, statistics: CallStatistics) -> None:
        """Say how it goes, once a second."""
        ...

    def notify(self, sentence: str) -> None:
        """Say that something changed."""
        ...


def prepare(plan: CallPlan, progress: Progress) -> Prepared:
    """Check everything, and learn to read the face. Raises InputError, StreamError, PackError, VideoError and
    FaceError."""
    _check_host(plan.meeting.host)
    if plan.microphone is not None and (plan.clip is not None or not plan.sound):
        raise InputError("--microphone goes with neither --input nor --no-sound.")
    if plan.meeting.connect is not None:
        _check_reach(plan.meeting, host_and_port(plan.meeting.connect)[0])
    if plan.meeting.listen is not None:
        host_and_port(plan.meeting.listen)
    if plan.meeting.stun is not None:
        host_and_port(plan.meeting.stun)
    if plan.face.suffix.lower() != SUFFIX:
        raise InputError(
            f"{plan.face} is no {SUFFIX} file: a call sends one, of 204,800 bytes at most (mien person CLIP -o me{SUFFIX} --size 170k)."
        )
    person = Person.load(plan.face)
    data = sendable(person, plan.face)
    source = camera_or_clip(plan.camera, plan.clip)
    sound: Iterator[Any] = iter(())
    if plan.sound:
        sound = clip_sound(plan.clip) if plan.clip is not None else microphone_sound(plan.microphone)
    with progress.stage("learn to read the face", ReaderOptions().renders) as tick:
        face = driven_face(drawn_face(person, None), tick)
    return Prepared(face, data, person.name, source, sound)


def _check_host(host: str) -> None:
    """Raise InputError where nothing can listen at an address."""
    if host == ALL:
        return
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host} is no address of this machine: give one that is to --host, or {ALL}.") from error


def _check_reach(meeting: Meeting, other: str) -> None:
    if meeting.host == LOOPBACK and other not in (LOOPBACK, "localhost"):
        raise InputError(
            f"to call {other}, say at which address of this machine the call may listen: --host ADDRESS, or --host {ALL}."
        )


async def run(plan: CallPlan, prepared: Prepared, terminal: Terminal) -> CallStatistics:
    """Meet the other end and call; returns what the call did. Raises MienError and its kinds."""
    sys.setswitchinterval(SWITCH)
    recording = CallRecording(plan.output) if plan.output is not None else None
    heard = HeardSound(recording.sound if recording is not None else None, plan.sound and has_display())
    try:
        done = await _call(plan, prepared, terminal, recording, heard)
        done.sound_seconds = heard.seconds
    finally:
        heard.close()
        if recording is not None:
            recording.finish()
    return done


async def _call(
    plan: CallPlan, prepared: Prepared, terminal: Terminal, recording: CallRecording | None, heard: HeardSound
) -> CallStatistics:
    sound = SoundTrack(prepared.sound)
    sessions: list[CallSession] = []

    def moved(data: bytes) -> None:
        for session in sessions:
            session.moved(data)

    line = Line([plan.meeting.host], plan.meeting.stun, sound, heard, moved)
    try:
        await _meet(line, plan.meeting, terminal)
        await line.connected()

        def outputs(face: DrawnFace, hello: Hello) -> Sequence[Output]:
            found: list[Output] = [] if recording is None else [recording.open(hello.fps)]
            return [*found, Window(face.still.resolution, hello.fps)] if has_display() else found

        ends = CallEnds(prepared.data, prepared.name, terminal.ask, outputs, terminal.tick, terminal.notify)
        options = LiveOptions(plan.calibrate, plan.marks)
        session = CallSession(line, prepared.face, prepared.source, sound, ends, options)
        sessions.append(session)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, session.stop)
        return await session.run()
    finally:
        await line.close()


async def _meet(line: Line, meeting: Meeting, terminal: Terminal) -> None:
    """Exchange the invitation and its answer."""
    loop = asyncio.get_running_loop()
    if meeting.join is None and meeting.connect is None:
        invitation = to_code(INVITATION, await line.invitation())
        if meeting.listen is not None:
            host, port = host_and_port(meeting.listen)
            if ":" not in meeting.listen and meeting.host != LOOPBACK:
                host = "" if meeting.host == ALL else meeting.host
            ready: asyncio.Future[int] = loop.create_future()
            ready.add_done_callback(lambda at: terminal.notify(f"listening at port {at.result()}."))
            answer = await exchange_as_server(invitation, host, port, ready)
        else:
            terminal.invite(invitation)
            answer = await in_daemon_thread(lambda: terminal.read("their answer"))
        await line.accept(from_code(answer, ANSWER))
        return
    if meeting.connect is not None:
        visit = Visit(*host_and_port(meeting.connect))
        await visit.answer(to_code(ANSWER, await line.answer(from_code(await visit.invitation(), INVITATION))))
        return
    assert meeting.join is not None
    invitation = (
        meeting.join if meeting.join != "-" else await in_daemon_thread(lambda: terminal.read("the invitation"))
    )
    terminal.reply(to_code(ANSWER, await line.answer(from_code(invitation, INVITATION))))
