"""What the two ends tell each other before and beside the numbers: short messages in JSON, and a person's file in
pieces.

Whatever comes from the other end is checked here: `read_message` and `PersonArrival` raise StreamError for anything
else, and never take more than they announced.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mien.errors import InputError, StreamError
from mien.format.limits import MAX_FRAMES
from mien.format.live_packets import check_steps
from mien.format.person import SUFFIX, Person
from mien.runtime.files import write_bytes

VERSION = 1
MOST_PERSON = 204_800  # bytes of a person's file: 200 KiB
PIECE = 16_000  # bytes of a message with a part of it
MOST_MESSAGE = 4_096  # characters of a message
RATES = (1, 120)  # frames a second
WANT, READY, DECLINE, BYE = "want", "ready", "decline", "bye"


@dataclass(frozen=True)
class Hello:
    """Who an end is: `fps` of its numbers and their `steps` (`mien.format.live_packets`); its person's file by `sha256`
    and `size` in bytes, and a `name` to ask by."""

    fps: Fraction
    steps: tuple[int, ...]
    sha256: str
    size: int
    name: str

    def text(self) -> str:
        """The message."""
        fps = [self.fps.numerator, self.fps.denominator]
        return json.dumps({"type": "hello", "version": VERSION, "fps": fps, "steps": list(self.steps),
                           "sha256": self.sha256, "size": self.size, "name": self.name})  # fmt: skip


@dataclass(frozen=True)
class Notice:
    """A message of one word: WANT, READY, DECLINE, or BYE with the number of `frames` that the end had."""

    kind: str
    frames: int = 0

    def text(self) -> str:
        """The message."""
        return json.dumps({"type": self.kind, "frames": self.frames})


def read_message(text: str) -> Hello | Notice:
    """A message of the other end. Raises StreamError: it is none, or a value in it is out of range."""
    if len(text) > MOST_MESSAGE:
        raise StreamError("the other end sent a message that is too long.")
    try:
        values = json.loads(text)
        kind = values["type"]
        if kind == "hello":
            return _hello(values)
        frames = _whole(values["frames"], 0, MAX_FRAMES)
    except (ValueError, KeyError, TypeError, RecursionError, ZeroDivisionError, OverflowError) as error:
        raise StreamError("the other end sent a message that is none of mien call.") from error
    if kind not in (WANT, READY, DECLINE, BYE):
        raise StreamError("the other end sent a message that is none of mien call.")
    return Notice(kind, frames)


def _hello(values: dict[str, Any]) -> Hello:
    if values["version"] != VERSION:
        raise StreamError("the other end speaks another version of mien call.")
    above, below = values["fps"]
    fps = Fraction(_whole(above, 1, 1_000_000), _whole(below, 1, 1_000_000))
    if not RATES[0] <= fps <= RATES[1]:
        raise StreamError("the other end's frame rate is out of range.")
    sha256, name = values["sha256"], values["name"]
    if not isinstance(name, str) or not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise StreamError("the other end does not say who it is.")
    return Hello(fps, check_steps(values["steps"]), sha256, _whole(values["size"], 1, MOST_PERSON), _printable(name))


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise StreamError("the other end sent a number that is out of range.")
    return value


def _printable(name: str) -> str:
    """A name that a terminal can show: nothing in it moves a cursor."""
    return "".join(c if c.isprintable() else "?" for c in name[:60])


def sendable(person: Person, path: Path) -> bytes:
    """The file of the person that an end shows. Raises InputError where it is too large for a call."""
    data = person.to_bytes()
    if len(data) > MOST_PERSON:
        raise InputError(
            f"{path} has {len(data):,} bytes, a call sends {MOST_PERSON:,} at most: "
            f"make a small one with mien person CLIP -o me{SUFFIX} --size 170k."
        )
    return data


def pieces(data: bytes) -> Iterator[bytes]:
    """The messages that a person's file is sent in."""
    return (data[at : at + PIECE] for at in range(0, len(data), PIECE))


class PersonArrival:
    """Puts the file of the other end's person together: `add` its pieces until it returns the person."""

    def __init__(self, hello: Hello) -> None:
        self._hello, self._data = hello, bytearray()

    def add(self, piece: bytes) -> Person | None:
        """Take a piece; the person once it is whole. Raises StreamError: it is longer, or another than was
        announced."""
        if len(self._data) + len(piece) > self._hello.size or not piece:
            raise StreamError("the other end sent more of its person than it announced.")
        self._data += piece
        if len(self._data) < self._hello.size:
            return None
        data = bytes(self._data)
        if hashlib.sha256(data).hexdigest() != self._hello.sha256:
            raise StreamError("the other end's person is not the one that was announced: its hash differs.")
        return Person.from_bytes(data, "the other end's person")


def callers_folder() -> Path:
    """Where accepted persons of other ends are kept: `$MIEN_HOME/callers`, by default `~/.mien/callers`."""
    return Path(os.environ.get("MIEN_HOME", Path.home() / ".mien")) / "callers"


def kept_person(hello: Hello) -> Person | None:
    """The person if they were accepted once and are here, whole."""
    path = callers_folder() / f"{hello.sha256}{SUFFIX}"
    try:
        data = path.read_bytes() if path.stat().st_size <= MOST_PERSON else b""
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != hello.sha256:
        return None
    return Person.from_bytes(data, os.fspath(path))


def keep_person(person: Person) -> None:
    """Keep an accepted person, so that they need not be sent again."""
    folder = callers_folder()
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / f"{person.fingerprint}{SUFFIX}", person.to_bytes())
