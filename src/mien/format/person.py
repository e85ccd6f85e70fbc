"""`Person`: one person's tuned weights and identity latent, and its file, `NAME.person` (docs/format.md).

A generator is tuned to a person once (`mien person CLIP -o NAME.person`); many streams of that person then name it by
its hash instead of carrying the weights (`mien encode --person NAME.person`). It also serves as the face in
puppeteering. The file is framed as a `.mien` is: tagged parts with checksums, read as strictly.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mien.errors import PackError, StreamError
from mien.format import container, limits
from mien.format.container import PERSON, Part, PartEntry
from mien.format.limits import FRAME_BYTES, PARAMETERS, check_limit
from mien.format.stream import Stream

SUFFIX = ".person"
NEEDED = ("HEAD", "IDEN", "TUNE")
KNOWN = (*NEEDED, "seen")
MOST_FRAMES = 64
MOST_SEARCHED = 1000  # files of a folder that are looked into for a hash
_HEAD = struct.Struct("<32sIHHHH")


@dataclass(frozen=True, eq=False)
class Person:
    """What a `.person` file holds.

    Attributes:
        name: what the person is called, for people; also where the file is looked for.
        pack: SHA-256 fingerprint of the pack whose generator was tuned, 64 hexadecimal digits.
        pack_name: that pack's name.
        resolution: side of the generator's images, pixels.
        identity: float16 [num_ws, w_dim], the identity latent L_ID in W+, facing the camera.
        tuning: the tuned weights (`mien.format.weights_codec`), not empty.
        frames: float16 [T, 35], numbers of at most 64 frames in which the person was seen, as a stream has them: what
            their face does. None at all, T = 0, in files that do not say.

    Raises:
        StreamError: a shape, a limit or a number that the format does not allow.
    """

    name: str
    pack: str
    pack_name: str
    resolution: int
    identity: np.ndarray
    tuning: bytes
    frames: np.ndarray = field(default_factory=lambda: np.zeros((0, PARAMETERS), np.float16))

    def __post_init__(self) -> None:
        what = "the person"
        limits.person_name(self.name, True, what)
        limits.pack_name(self.pack_name, what)
        limits.resolution(self.resolution, what)
        identity = limits.identity_latent(self.identity, what)
        check_limit(bool(self.tuning), "it has no tuned weights", what)
        frames = limits.float16_array(self.frames, "frames", 2, what)
        check_limit(frames.shape[1] == PARAMETERS, f"a frame has {PARAMETERS} parameters, not {frames.shape[1]}", what)
        check_limit(len(frames) <= MOST_FRAMES, f"it has {len(frames)} frames; {MOST_FRAMES} are allowed", what)
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "pack", limits.fingerprint(self.pack, what))
        object.__setattr__(self, "identity", identity)
        object.__setattr__(self, "tuning", bytes(self.tuning))

    @staticmethod
    def of(stream: Stream, name: str) -> Person:
        """The person of a stream that carries tuned weights, with frames spread evenly over it. Raises StreamError where
        it carries none."""
        check_limit(bool(stream.tuning), "it carries no tuned weights to make a person of")
        frames = stream.frames[np.linspace(0, len(stream) - 1, min(len(stream), MOST_FRAMES)).round().astype(int)]
        return Person(name, stream.pack, stream.pack_name, stream.resolution, stream.identity, stream.tuning, frames)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file, 64 hexadecimal digits: what streams name the person by."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def require_pack(self, fingerprint: str, name: str) -> None:
        """Make sure that the person was made with the pack of this fingerprint. Raises StreamError otherwise."""
        if self.pack != fingerprint.lower():
            raise StreamError(
                f"the person '{self.name}' was made with pack '{self.pack_name}' ({self.pack[:8]}), and does not go "
                f"with pack '{name}' ({fingerprint[:8]})."
            )

    def require_size(self, size: int | None) -> None:
        """Make sure that pictures of `size` pixels, None for whichever are right, are those that the person was learned in.
        Raises StreamError otherwise."""
        if size not in (None, self.resolution):
            raise StreamError(
                f"the person '{self.name}' was learned in pictures of {self.resolution} pixels: leave out the size of {size}."
            )

    def to_bytes(self) -> bytes:
        """The file as bytes: the same person always gives the same bytes."""
        return container.join(self._parts(), PERSON)

    @staticmethod
    def from_bytes(data: bytes, name: str = "the person") -> Person:
        """The person in the bytes of a `.person` file. Raises StreamError as `load`."""
        return _read(io.BytesIO(data), name)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all. Raises OutputError, and MienError when the disk is full."""
        container.save(path, self.to_bytes())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Person:
        """Read a `.person` file; every length is checked before it is used, every part against its checksum.

        Raises StreamError: no such file, an empty, foreign, truncated or damaged one, another version of the format, an
        unknown critical part, or a value out of range.
        """
        with container.opened(path) as (file, name):
            return _read(file, name)

    def accounting(self) -> dict[str, int]:
        """Bytes of the file, every one in exactly one of the first four: `header`, `identity`, `tuning`, `frames`;
        `total`."""
        total = len(self.to_bytes())
        parts = {"identity": 2 * self.identity.size, "tuning": len(self.tuning), "frames": 2 * self.frames.size}
        return {"header": total - sum(parts.values()), **parts, "total": total}

    def facts(self) -> dict[str, Any]:
        """What `mien info` tells, as values that JSON can hold."""
        return {
            "version": ".".join(map(str, container.VERSION)),
            "name": self.name,
            "fingerprint": self.fingerprint,
            "pack": self.pack,
            "pack_name": self.pack_name,
            "resolution": self.resolution,
            "num_ws": self.identity.shape[0],
            "w_dim": self.identity.shape[1],
            "weights": {b"MTD1": "all", b"MTL1": "compact"}.get(self.tuning[:4], "unknown"),
            "bytes": self.accounting(),
        }

    def _parts(self) -> list[Part]:
        pack_name, name = self.pack_name.encode(), self.name.encode()
        head = _HEAD.pack(
            bytes.fromhex(self.pack), self.resolution, *self.identity.shape, len(pack_name), len(name)
        )  # fmt: skip
        return [
            Part("HEAD", head + pack_name + name),
            Part("IDEN", limits.half_bytes(self.identity)),
            Part("TUNE", self.tuning),
            *([Part("seen", limits.half_bytes(self.frames))] if len(self.frames) else []),
        ]


def _read(file: BinaryIO, name: str) -> Person:
    entries = container.known_parts(container.scan(file, name, kind=PERSON), KNOWN, name)
    check_limit(all(tag in entries for tag in NEEDED), "it lacks its identity latent or its tuned weights", name)
    most = _HEAD.size + 2 * limits.MAX_NAME_BYTES
    check_limit(_HEAD.size <= entries["HEAD"].length <= most, "its head has a wrong length", name)
    head = _payload(file, entries["HEAD"], name)
    pack, resolution, num_ws, w_dim, pack_bytes, name_bytes = _HEAD.unpack_from(head)
    check_limit(len(head) == _HEAD.size + pack_bytes + name_bytes, "its head has a wrong length", name)
    limits.latent_shape(num_ws, w_dim, name)
    check_limit(entries["IDEN"].length == 2 * num_ws * w_dim, "its part 'IDEN' has a wrong length", name)
    try:
        pack_name = head[_HEAD.size : _HEAD.size + pack_bytes].decode()
        own_name = head[_HEAD.size + pack_bytes :].decode()
    except UnicodeDecodeError as error:
        raise StreamError(f"{name} cannot be used: a name in it is not text.") from error
    identity = np.frombuffer(_payload(file, entries["IDEN"], name), "<f2").reshape(num_ws, w_dim)
    tuning = _payload(file, entries["TUNE"], name)
    seen = entries.get("seen")
    check_limit(
        seen is None or (0 < seen.length <= FRAME_BYTES * MOST_FRAMES and seen.length % FRAME_BYTES == 0),
        "its part 'seen' has a wrong length", name,
    )  # fmt: skip
    rows = np.frombuffer(_payload(file, seen, name) if seen else b"", "<f2").reshape(-1, PARAMETERS)
    try:
        return Person(own_name, pack.hex(), pack_name, resolution, identity, tuning, rows)
    except StreamError as error:
        raise StreamError(str(error).replace("the person", name, 1)) from error


def _payload(file: BinaryIO, entry: PartEntry, name: str) -> bytes:
    data = container.read_payload(file, entry)
    if not container.intact(entry, data):
        raise StreamError(f"{name} is damaged: the checksum of its part '{entry.tag}' is wrong.")
    return data


def persons_folder() -> Path:
    """Where persons are kept for all streams: `$MIEN_HOME/persons`, by default `~/.mien/persons`."""
    return Path(os.environ.get("MIEN_HOME", Path.home() / ".mien")) / "persons"


def find_person(stream: Stream, where: Person | str | os.PathLike[str] | None = None) -> Person | None:
    """The person that a stream names, None where it names none.

    `where`: the person itself, its file, or a folder to look in before `persons_folder()`. In a folder
    `NAME.person` is looked at first, then every other `.person` file.

    Raises:
        StreamError: `where` is another person, or its file cannot be read.
        PackError: the person is nowhere.
    """
    if isinstance(where, Person) and stream.person:
        return _the_one(where, stream, f"the person '{where.name}'")
    found = locate_person(stream, None if isinstance(where, Person) else where)
    return found[1] if found else None


def locate_person(stream: Stream, where: str | os.PathLike[str] | None = None) -> tuple[Path, Person] | None:
    """As `find_person`, with the file that holds it."""
    if not stream.person:
        return None
    folders = [persons_folder()]
    if where is not None and not os.path.isdir(where):
        return Path(where), _the_one(Person.load(where), stream, os.fspath(where))
    if where is not None:
        folders.insert(0, Path(where))
    for folder in folders:
        for path in _candidates(folder, stream.person_name):
            try:
                if hashlib.sha256(path.read_bytes()).hexdigest() == stream.person:
                    return path, Person.load(path)
            except OSError:
                continue
    raise PackError(
        f"this stream needs the person '{stream.person_name}' ({stream.person[:8]}), which is not here: give its file "
        f"with --person, or put it beside the stream or into {persons_folder()}."
    )


def _the_one(person: Person, stream: Stream, what: str) -> Person:
    if person.fingerprint != stream.person:
        raise StreamError(
            f"the stream needs the person '{stream.person_name}' ({stream.person[:8]}), and {what} is another one "
            f"({person.fingerprint[:8]})."
        )
    return person


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    """Files of a folder that may be the person: the one of that name first. A name from a file is no path."""
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix == SUFFIX and p.is_file())[:MOST_SEARCHED]
    except OSError:
        return
    yield from sorted(found, key=lambda path: path.name != f"{name}{SUFFIX}")
