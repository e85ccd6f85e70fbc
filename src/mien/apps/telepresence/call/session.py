"""The course of a call, once the line is there: introductions, persons, then numbers and sound until both have ended.

asyncio does what the line brings. Tracking the own face and drawing the other one have threads of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mien.apps.telepresence.call.daemon_thread import in_daemon_thread
from mien.apps.telepresence.call.introduction import (
    BYE,
    DECLINE,
    READY,
    WANT,
    Hello,
    Notice,
    PersonArrival,
    keep_person,
    kept_person,
    pieces,
    read_message,
)  # fmt: skip
from mien.apps.telepresence.call.line import Line
from mien.apps.telepresence.call.show import Show
from mien.apps.telepresence.call.statistics import CallStatistics
from mien.apps.telepresence.face import DrawnFace, LiveFace, drawn_face
from mien.apps.telepresence.marks import Marker
from mien.apps.telepresence.newest import Newest
from mien.apps.telepresence.outputs import Output
from mien.apps.telepresence.session import LiveOptions, MotionTracker
from mien.apps.telepresence.sources import Captured, ClipSource, Source, feed
from mien.errors import MienError, StreamError
from mien.format.live_packets import (
    PacketReader,
    PacketWriter,
    Received,
    acknowledgement,
    is_acknowledgement,
    usual_steps,
)  # fmt: skip
from mien.format.person import Person

ACKNOWLEDGE_EVERY = 3  # frames that are read, one is acknowledged
MOST_DATAGRAMS = 400  # a second: more are not looked at
LEAD = 0.3  # seconds from "both are ready" to the first frame
FAREWELL = 0.3  # seconds for the goodbye to leave


@dataclass(frozen=True)
class CallEnds:
    """What a call needs of its surroundings. `ask(hello, kept)`: whether the user wants to see that person, who
    may be here from an earlier call (`kept`): whoever knows the hash can claim to be them; `outputs(face, hello)`:
    where the other end's pictures go; `own`: bytes of the own person's file."""

    own: bytes
    name: str
    ask: Callable[[Hello, bool], bool]
    outputs: Callable[[DrawnFace, Hello], Sequence[Output]]
    tick: Callable[[CallStatistics], None]
    notify: Callable[[str], None]


class CallSession:
    """A call over a connected line. `run()` until both ends have ended, the line is gone, or `stop()`."""

    def __init__(
        self, line: Line, face: LiveFace, source: Source, sound: Any, ends: CallEnds, options: LiveOptions
    ) -> None:
        self._line, self._face, self._source, self._sound = line, face, source, sound
        self._ends, self._options = ends, options
        self._loop = asyncio.get_running_loop()
        self._stop, self._halt = asyncio.Event(), threading.Event()
        steps = usual_steps(face.unit)
        self._writer, self._steps = PacketWriter(steps), steps
        self._reader: PacketReader | None = None
        self._hello: Hello | None = None
        self._show: Show | None = None
        self._newest, self._newest_at, self._rate_of = -1, 0.0, (0.0, 0)
        self._began = self._ready = self._other_ended = False
        self._arrival: PersonArrival | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._frames: Newest[Captured] = Newest()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self.statistics = CallStatistics()

    def stop(self) -> None:
        """End the call."""
        self._stop.set()

    async def run(self) -> CallStatistics:
        """Run; returns what it did. Raises StreamError where the other end sent what cannot be used."""
        mine = Hello(
            self._source.fps,
            self._steps,
            hashlib.sha256(self._ends.own).hexdigest(),
            len(self._ends.own),
            self._ends.name,
        )
        self._line.say(mine.text())
        self._threads = [threading.Thread(target=self._track, daemon=True, name="mien-track")]
        self._threads[0].start()  # its networks are set up while the persons are exchanged
        ticking = asyncio.ensure_future(self._ticking())
        talk = asyncio.ensure_future(self._talk())
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([talk, stop], return_when=asyncio.FIRST_COMPLETED)
            if talk.done():
                talk.result()
            if self._error is not None:
                raise self._error
        finally:
            for task in (ticking, talk, stop, self._greeting):
                if task is None:
                    continue
                task.cancel()
                with suppress(asyncio.CancelledError, MienError):
                    await task
            await self._finish()
        return self.statistics

    def moved(self, data: bytes) -> None:
        """A datagram came."""
        now = time.monotonic()
        second, count = self._rate_of
        self._rate_of = (now, 1) if now - second >= 1 else (second, count + 1)
        if self._rate_of[1] > MOST_DATAGRAMS:
            return
        if is_acknowledgement(data):
            self.statistics.trips.back(self._writer.acknowledged(data))
        elif self._reader is not None and self._show is not None and self._hello is not None:
            self._moved(data, now, self._reader, float(self._hello.fps))

    def _moved(self, data: bytes, now: float, reader: PacketReader, fps: float) -> None:
        done = self.statistics
        done.face_bytes[1] += len(data)
        done.lately.append((now, len(data)))
        since, known = (done.begin, 0) if self._newest < 0 else (self._newest_at, self._newest)
        expected = known + round((now - since) * fps)
        try:
            frame = reader(data, expected)
        except StreamError:
            done.refused += 1
            return
        if frame is None or frame.number <= self._newest:
            return
        if frame.number > (now - done.begin + 2 * LEAD) * fps * 1.05 + fps:  # no honest end is ahead of its own clock
            done.refused += 1
            return
        if self._newest >= 0:
            done.gap = max(done.gap, now - self._newest_at)
        self._newest, self._newest_at = frame.number, now
        done.read += 1
        if done.read % ACKNOWLEDGE_EVERY == 1:
            self._line.send(acknowledgement(frame.number))
        self._shown(frame)

    def _shown(self, frame: Received) -> None:
        assert self._show is not None
        if self._show.failed:
            self.stop()
        else:
            self._show.put(frame)

    async def _talk(self) -> None:
        """Answer the other end's messages until both have said goodbye."""
        while not (self._other_ended and self._ended.is_set()):
            message = await self._next_message()
            if message is None:
                return
            if isinstance(message, bytes):
                await self._piece(message)
                continue
            said = read_message(message)
            if isinstance(said, Notice):
                self._noticed(said)
            elif self._hello is not None:
                raise StreamError("the other end introduced itself twice.")
            else:
                self._hello = said
                self._greeting = asyncio.ensure_future(self._greet(said))  # meanwhile the other end may ask for ours
                self._greeting.add_done_callback(self._greeted)

    async def _next_message(self) -> str | bytes | None:
        """The next message; None once the line is gone or both have ended."""
        message = asyncio.ensure_future(self._line.messages.get())
        over = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait([message, over], return_when=asyncio.FIRST_COMPLETED)
            if message.done() or not self._other_ended:
                return await message
            return None
        finally:
            message.cancel()
            over.cancel()

    async def _greet(self, hello: Hello) -> None:
        """See whether the other end's person is here or wanted."""
        person = kept_person(hello)
        if not await in_daemon_thread(lambda: self._ends.ask(hello, person is not None)):
            self._ends.notify("their face is not shown: you declined it.")
            self._line.say(Notice(DECLINE).text())
        elif person is not None:
            await self._meet(person)
        else:
            self._arrival = PersonArrival(hello)
            self._line.say(Notice(WANT).text())

    def _greeted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
            self.stop()

    async def _piece(self, data: bytes) -> None:
        """A part of the other end's person came."""
        if self._arrival is None:
            raise StreamError("the other end sent its person before it was asked to.")
        person = self._arrival.add(data)
        if person is not None:
            self._arrival = None
            keep_person(person)
            await self._meet(person)

    async def _meet(self, person: Person) -> None:
        """Get the other end's face ready to be drawn."""
        assert self._hello is not None
        face = await self._loop.run_in_executor(None, _ready_face, person)
        mark = Marker(face.still, self._options.marks)
        outputs = self._ends.outputs(face, self._hello)
        self._reader = PacketReader(self._hello.steps)
        self._show = Show(lambda row: mark(face.paint(row)), outputs, self.statistics)
        self._ready_now()
        self._line.say(Notice(READY).text())

    def _ready_now(self) -> None:
        """The call's time begins when the first end is ready."""
        if not self._ready:
            self._ready, self.statistics.begin = True, time.monotonic()

    def _noticed(self, said: Notice) -> None:
        if said.kind == WANT:
            for piece in pieces(self._ends.own):
                self._line.say(piece)
        elif said.kind == DECLINE:
            self._ends.notify("the other end does not want to see your face: it gets sound only.")
            self._begin(face=False)
        elif said.kind == READY:
            self._begin()
        elif said.kind == BYE:
            self._other_ended = True
            self.statistics.frames = min(said.frames, self._most_frames())

    def _most_frames(self) -> int:
        fps = float(self._hello.fps) if self._hello is not None else 0.0
        return round((time.monotonic() - self.statistics.begin + 1) * fps * 1.05)

    def _begin(self, face: bool = True) -> None:
        """Send the own numbers and sound from now on."""
        if self._began:
            return
        self._began = True
        self._ready_now()
        begin = time.monotonic() + LEAD
        self._sound.start(begin)
        if isinstance(self._source, ClipSource):
            self._source.begin = begin
        if face:
            self._threads.append(feed(self._source, self._frames, self._halt))
        else:
            self._frames.close()
            self._sound.on("ended", lambda: self._end_own(0))

    def _track(self) -> None:
        last = -1
        try:
            tracker = MotionTracker(self._face, self._options)
            while not self._halt.is_set() and (captured := self._frames.take()) is not None:
                last = captured.index
                tracked = tracker(captured)
                self._loop.call_soon_threadsafe(self._send, last, tracked.row)
            tracker.close()
        except BaseException as error:  # noqa: BLE001 - raised in `run`
            self._error = error
        if last >= 0 or self._error is not None:
            with suppress(RuntimeError):  # the loop is gone: so is the call
                self._loop.call_soon_threadsafe(self._end_own, self._source.count or last + 1)

    def _send(self, number: int, row: Any) -> None:
        data = self._writer(number, row)
        if self._line.send(data):
            self.statistics.trips.sent(number)
            self.statistics.sent += 1
            self.statistics.face_bytes[0] += len(data)
        else:
            self.statistics.not_sent += 1

    def _end_own(self, frames: int) -> None:
        if self._error is not None:
            self.stop()
        self._line.say(Notice(BYE, frames).text())
        self._ended.set()

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.statistics.line_bytes = await self._line.bytes_moved()
            if self._show is not None:
                self._ends.tick(self.statistics)

    async def _finish(self) -> None:
        done = self.statistics
        done.end = time.monotonic()
        done.sound_bytes = self._sound.sent
        self._halt.set()
        self._frames.close()
        with suppress(Exception):
            done.line_bytes = await self._line.bytes_moved()
        if not self._ended.is_set():
            self._line.say(Notice(BYE, 0).text())
            await asyncio.sleep(FAREWELL)
        await self._line.close()
        for thread in self._threads:
            await self._loop.run_in_executor(None, thread.join, 2.0)
        done.frames = max(done.frames, self._newest + 1)
        if self._show is not None:
            await self._loop.run_in_executor(None, self._show.close, done.frames)


def _ready_face(person: Person) -> DrawnFace:
    face = drawn_face(person, None)
    for _ in range(2):  # the first picture sets the decoder's buffers up
        face.paint(face.neutral)
    return face
