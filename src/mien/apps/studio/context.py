"""What the tabs share: the pack, the people on the shelf, the ready drivers, the queue of jobs, and the visitors."""

from __future__ import annotations

import threading
import traceback
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mien.apps.studio.access_control import COOKIE
from mien.apps.studio.job_queue import JobQueue
from mien.apps.studio.media import Renderer, data_address, person
from mien.apps.studio.sessions import Session, Sessions
from mien.editing.curves import MotionCurves
from mien.errors import MienError
from mien.format.stream import Stream
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from mien.runtime.device import resolve_device

SHELF = 18  # people on the shelf
FPS = Fraction(25)
USUAL_SIZE = 256  # of pictures: larger ones are not seen larger in the page, and take several times as long
TOUR = "A tour: turn, nod, then every attribute"
TALK = "A talking person"
EXAMPLES = Path(__file__).parents[4] / "examples"  # of a checkout; an installed package has none


@dataclass
class Studio:
    """One running studio. The pack is loaded when it is first needed (`warm` does it while the page comes up). `size`:
    side of its pictures, None: 256 where the pack draws that, else the pack's own."""

    pack_name: str
    sessions: Sessions
    size: int | None = None
    queue: JobQueue = field(default_factory=JobQueue)
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _found: Pack | None = None

    @property
    def pack(self) -> Pack:
        """The pack, loaded at first use, on the device that encoding and puppets take: they move the very same networks.
        Raises PackError."""
        with self._loading:
            if self._found is None:
                found = Pack.load(self.pack_name)
                usual = USUAL_SIZE if USUAL_SIZE in found.generator.sizes else None
                self._found = found.at(self.size or usual).to(resolve_device("auto"))
            return self._found

    @cached_property
    def curves(self) -> MotionCurves:
        """Names of the pack's curves."""
        return MotionCurves.of(self.pack.channels)

    @cached_property
    def shelf(self) -> list[str]:
        """Pictures of people who do not exist, as data addresses."""
        return [data_address(person(self.pack, w)) for w in self.pack.people[:SHELF]]

    @cached_property
    def blank(self) -> Stream:
        """One still frame of the shelf's first person, to make other streams from."""
        identity = self.pack.people[0].cpu().numpy().astype(np.float16)
        frames = np.zeros((1, 35), np.float16)
        return Stream(self.pack.fingerprint, self.pack.name, self.pack.resolution, FPS, channel_table(self.pack.channels),
                      identity, frames)  # fmt: skip

    @cached_property
    def drivers(self) -> dict[str, Stream]:
        """Ready-made drivers by name.

        A tour of the curves, and the example's talking person if its pack is this one.
        """
        found = {TOUR: tour(self.blank, self.curves)}
        example = EXAMPLES / "clip.mien"
        try:
            stream = Stream.load(example)
            if stream.pack == self.pack.fingerprint:
                found[TALK] = stream
        except MienError:
            pass
        return found

    def warm(self) -> None:
        """Load the pack and draw the shelf."""
        try:
            _ = self.shelf, self.drivers
        except MienError:
            pass  # whoever asks next is told

    def session(self, request: Any) -> Session:
        """The session that a request of the page belongs to. Raises InputError."""
        return self.sessions.get(str(request.session_hash), request.cookies.get(COOKIE) or "none")

    def renderer(self, session: Session) -> Renderer:
        """The session's renderer."""
        with session.lock:
            if "renderer" not in session.memory:
                session.memory["renderer"] = Renderer(self.pack)
            return session.memory["renderer"]


def tour(blank: Stream, curves: MotionCurves) -> Stream:
    """Make a driver: yaw, pitch, then each attribute's channels swinging once to either side, in turn, 1.2 s each."""
    from dataclasses import replace

    steps = round(1.2 * float(FPS))
    swing = np.sin(2 * np.pi * np.arange(steps) / steps)
    parts = []
    for name, members in curves.groups.items():
        if name == "roll":
            continue
        part = np.zeros((steps, 35))
        if name in ("yaw", "pitch"):
            part[:, members] = {"yaw": 25.0, "pitch": 12.0}[name] * swing[:, None]
        else:
            part[:, members] = 1.5 * curves.scales[members] * swing[:, None]
        parts.append(part)
    return replace(blank, frames=np.concatenate(parts).astype(np.float16))


def sentence(error: Exception, session: Session | None = None) -> str:
    """Say an error to the visitor, without the paths of this machine."""
    if not isinstance(error, MienError):
        traceback.print_exception(error)  # to the terminal
        return f"Something went wrong ({type(error).__name__}). Try again; if it stays, look at the studio's terminal."
    text = str(error)
    if session is not None:
        for path in sorted(session.folder.glob("*"), key=lambda p: -len(str(p))):
            text = text.replace(str(path), "the file")
        text = text.replace(str(session.folder), "the session")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
