"""The course of a call with a line that is none: what an honest end does, and what a hostile one cannot."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.apps.telepresence.call.introduction import BYE, DECLINE, READY, WANT, Hello, Notice, pieces, read_message
from mien.apps.telepresence.call.session import MOST_DATAGRAMS, CallEnds, CallSession
from mien.apps.telepresence.call.statistics import CallStatistics
from mien.apps.telepresence.face import LiveFace
from mien.apps.telepresence.marks import Marks
from mien.apps.telepresence.outputs import MotionRecord
from mien.apps.telepresence.session import LiveOptions
from mien.errors import StreamError
from mien.format.live_packets import PacketWriter, is_acknowledgement, usual_steps
from mien.format.person import Person
from mien.format.weights_codec import encode_delta
from mien.packs.pack import Pack

UNIT = np.concatenate([[5.0] * 3, np.ones(32)])
OWN = b"the own person's file"


class TestLine:
    """Keeps what is said and sent; `messages` are the other end's."""

    __test__ = False

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.said: list[Any] = []
        self.sent: list[bytes] = []
        self.on_say: Callable[[Any], None] = lambda message: None

    def say(self, message: Any) -> None:
        self.said.append(message)
        self.on_say(message)

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    async def bytes_moved(self) -> tuple[int, int]:
        return 7, 9

    async def close(self) -> None:
        self.messages.put_nowait(None)


class Black:
    """Six black frames, no face in them."""

    fps, count = Fraction(30), 6

    def frames(self) -> Iterator[tuple[float, np.ndarray]]:
        for i in range(6):
            yield i / 30, np.zeros((64, 64, 3), np.uint8)


class Silence:
    """A sound track without sound."""

    sent = 0

    def start(self, begin: float) -> None:
        self.begin = begin

    def on(self, event: str, call: Callable[[], None]) -> None:
        call()


def a_call(wanted: bool = True, record: MotionRecord | None = None) -> tuple[CallSession, TestLine]:
    line = TestLine()
    face = LiveFace(Any, Any, UNIT[3:], Any, Any)  # type: ignore[arg-type] - no face is seen, so nothing is read or drawn
    outputs = [] if record is None else [record]
    ends = CallEnds(OWN, "me", lambda hello, kept: wanted, lambda face, hello: outputs, lambda s: None, lambda s: None)
    return CallSession(line, face, Black(), Silence(), ends, LiveOptions(0.0, Marks(False, False))), line  # type: ignore[arg-type]


def hello(data: bytes = b"x") -> Hello:
    return Hello(Fraction(30), usual_steps(UNIT), hashlib.sha256(data).hexdigest(), len(data), "bob")


def course(
    messages: list[Any], wanted: bool = True, then: Callable[[CallSession, TestLine], Any] | None = None,
    record: MotionRecord | None = None,
) -> tuple[CallStatistics, TestLine]:  # fmt: skip
    async def run() -> tuple[CallStatistics, TestLine]:
        session, line = a_call(wanted, record)
        for message in messages:
            line.messages.put_nowait(message)
        extra = asyncio.ensure_future(then(session, line)) if then is not None else None
        try:
            return await asyncio.wait_for(session.run(), 60), line
        finally:
            if extra is not None:
                await extra

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))


def test_the_own_person_goes_only_to_whom_asks_for_it() -> None:
    _, line = course([Notice(WANT).text(), Notice(READY).text(), Notice(BYE, 3).text()])
    assert OWN in line.said
    done, line = course([Notice(READY).text(), Notice(BYE, 3).text()])
    assert OWN not in line.said
    assert 1 <= done.sent == len(line.sent)  # what the tracker did not take in time was dropped
    last = read_message(line.said[-1])
    assert last == Notice(BYE, 6)


def test_a_face_that_is_declined_is_not_asked_for() -> None:
    async def leave(session: CallSession, line: TestLine) -> None:
        while len(line.said) < 2:
            await asyncio.sleep(0.01)
        line.messages.put_nowait(None)

    _, line = course([hello().text()], wanted=False, then=leave)
    assert [read_message(m) for m in line.said[1:2]] == [Notice(DECLINE)]


def test_a_declined_end_sends_no_numbers() -> None:
    done, line = course([Notice(DECLINE).text(), Notice(BYE).text()])
    assert done.sent == 0 and not line.sent


@pytest.mark.parametrize(
    "messages",
    [[b"a person that nobody asked for"], [hello().text(), hello().text()], ["no message"], [Notice("other").text()]],
)
def test_hostile_messages_end_the_call(messages: list[Any]) -> None:
    with pytest.raises(StreamError):
        course(messages, wanted=False)


def test_another_person_than_announced_ends_the_call() -> None:
    async def lie(session: CallSession, line: TestLine) -> None:
        line.on_say = lambda m: line.messages.put_nowait(b"y") if m == Notice(WANT).text() else None

    with pytest.raises(StreamError, match="hash"):
        course([hello().text()], then=lie)


@pytest.mark.slow
def test_numbers_of_an_accepted_person_are_shown(mini: Pack) -> None:
    identity = np.zeros((mini.generator.num_ws, mini.generator.w_dim), np.float16)
    weights = encode_delta(mini.generator, mini.generator)
    data = Person("bob", mini.fingerprint, "mini", mini.resolution, identity, weights).to_bytes()
    record = MotionRecord()

    async def bob(session: CallSession, line: TestLine) -> None:
        line.on_say = lambda m: (
            [line.messages.put_nowait(p) for p in pieces(data)] if m == Notice(WANT).text() else None
        )
        while Notice(READY).text() not in line.said:
            await asyncio.sleep(0.01)
        write = PacketWriter(usual_steps(UNIT))
        rows = np.arange(6)[:, None] * 0.4 * UNIT
        for i, row in enumerate(rows):
            session.moved(write(i, row))
            session.moved(np.random.default_rng(i).bytes(40))
            await asyncio.sleep(0.05)
        far = PacketWriter(usual_steps(UNIT))
        session.moved(far(400, rows[0]))  # thirteen seconds ahead of the clock
        for _ in range(MOST_DATAGRAMS + 50):
            session.moved(b"flood")
        line.messages.put_nowait(Notice(READY).text())
        line.messages.put_nowait(Notice(BYE, 6).text())

    done, line = course([hello(data).text()], then=bob, record=record)
    assert done.read == 6 and done.frames == 6
    assert 1 <= done.refused <= MOST_DATAGRAMS + 10
    assert len(record.rows) == 6 and np.allclose(record.rows[-1], 2.0 * UNIT, rtol=1e-3)
    assert any(is_acknowledgement(d) for d in line.sent)
