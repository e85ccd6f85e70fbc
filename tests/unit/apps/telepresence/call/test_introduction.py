"""What the other end says is believed only as far as it can be checked."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factories.streams import make_stream
from mien.apps.telepresence.call.introduction import (
    BYE,
    MOST_PERSON,
    Hello,
    Notice,
    PersonArrival,
    keep_person,
    kept_person,
    pieces,
    read_message,
    sendable,
)  # fmt: skip
from mien.errors import InputError, StreamError
from mien.format.person import Person

PERSON = Person("ann", "ab" * 32, "tiny", 64, make_stream().identity, b"MTL1" + bytes(range(256)) * 200)
DATA = PERSON.to_bytes()
HELLO = Hello(Fraction(30), (5,) * 35, hashlib.sha256(DATA).hexdigest(), len(DATA), "ann")


def test_messages_come_back() -> None:
    assert read_message(HELLO.text()) == HELLO
    assert read_message(Notice(BYE, 77).text()) == Notice(BYE, 77)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "other"}, {"version": 2}, {"fps": [30, 0]}, {"fps": [10**9, 1]}, {"fps": [1, 1000]}, {"fps": 30},
        {"steps": [0] * 35}, {"steps": [1] * 34}, {"steps": None}, {"sha256": "xy"}, {"sha256": 5}, {"name": 7},
        {"size": MOST_PERSON + 1}, {"size": 0}, {"size": True}, {"size": "9"},
    ],
)  # fmt: skip
def test_hellos_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(StreamError):
        read_message(json.dumps(json.loads(HELLO.text()) | change))


@pytest.mark.parametrize(
    "text", ["", "[", "3", "[]", "{}", '{"type":"bye"}', '{"type":"bye","frames":-1}', "[" * 4000, " " * 5000]
)
def test_other_messages_are_refused(text: str) -> None:
    with pytest.raises(StreamError):
        read_message(text)


def test_a_name_moves_no_cursor() -> None:
    values = json.loads(HELLO.text()) | {"name": "eve\x1b[2J\r\n" + "x" * 500}
    said = read_message(json.dumps(values))
    assert isinstance(said, Hello) and said.name.isprintable() and len(said.name) == 60


def test_any_bytes_are_a_message_or_refused() -> None:
    random = np.random.default_rng(0)
    good = HELLO.text().encode()
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(int(random.integers(1, 8))):
            data[int(random.integers(len(data)))] = int(random.integers(32, 127))
        try:
            said = read_message(data.decode())
        except StreamError:
            continue
        assert isinstance(said, (Hello, Notice))


def test_a_person_arrives_in_pieces() -> None:
    arrival = PersonArrival(HELLO)
    found = [arrival.add(piece) for piece in pieces(DATA)]
    assert len(found) > 1 and found[:-1] == [None] * (len(found) - 1)
    assert found[-1] is not None and found[-1].to_bytes() == DATA


def test_another_person_than_announced_is_refused() -> None:
    wrong = bytearray(DATA)
    wrong[-1] ^= 1
    arrival = PersonArrival(HELLO)
    with pytest.raises(StreamError, match="hash"):
        for piece in pieces(bytes(wrong)):
            arrival.add(piece)
    with pytest.raises(StreamError, match="more"):
        PersonArrival(HELLO).add(DATA + b"x")
    with pytest.raises(StreamError):
        PersonArrival(HELLO).add(b"")


def test_accepted_persons_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    assert kept_person(HELLO) is None
    keep_person(PERSON)
    kept = kept_person(HELLO)
    assert kept is not None and kept.to_bytes() == DATA
    (file,) = (tmp_path / "callers").iterdir()
    file.write_bytes(DATA[:-1] + b"?")
    assert kept_person(HELLO) is None


def test_large_persons_are_not_sent() -> None:
    large = Person("ann", "ab" * 32, "tiny", 64, make_stream().identity, b"MTL1" + bytes(MOST_PERSON))
    with pytest.raises(InputError, match="204,800"):
        sendable(large, Path("me.person"))
