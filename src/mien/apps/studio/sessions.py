"""Visitors and their files: who owns what, how much, and for how long.

A *visitor* is a browser (a random cookie that only the server can read); a *session* is one page of theirs. A session
has a folder of its own and names for what may be fetched from it; what is fetched is looked up by name, never by path.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.errors import InputError

MEGABYTE = 1 << 20
UPLOAD_BYTES = 100 * MEGABYTE  # one file
VISITOR_BYTES = 400 * MEGABYTE  # all uploads of one visitor
CLIP_SECONDS = 600.0  # a clip may be this long; no more than TAKEN_SECONDS of it are worked on
TAKEN_SECONDS = 20.0
FRAME_SIDE = 4096
STREAM_FRAMES = 3000
IDLE_SECONDS = 3600.0  # a session that nobody has used for so long is removed
LEFT_SECONDS = 45.0  # and one whose page was closed after so long: a page that is reloaded or asleep may come back

KINDS = {  # what may be uploaded: its ending, and what such a file begins with, at which byte
    ".mp4": ((4, b"ftyp"),),
    ".m4v": ((4, b"ftyp"),),
    ".mov": ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free")),
    ".mkv": ((0, b"\x1a\x45\xdf\xa3"),),
    ".webm": ((0, b"\x1a\x45\xdf\xa3"), (4, b"ftyp")),  # some browsers record MP4 under this name
    ".png": ((0, b"\x89PNG\r\n\x1a\n"),),
    ".jpg": ((0, b"\xff\xd8\xff"),),
    ".jpeg": ((0, b"\xff\xd8\xff"),),
    ".webp": ((8, b"WEBP"),),
    ".mien": ((0, b"\x89MIEN\r\n\x1a"),),
}
CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
IMAGES = (".png", ".jpg", ".jpeg", ".webp")


def check_kind(path: Path) -> None:
    """Raise InputError unless the file's ending is one of KINDS and its first bytes are of that kind."""
    suffix = path.suffix.lower()
    if suffix not in KINDS:
        raise InputError("This type of file is not taken: use a video (MP4, MOV, MKV, WebM), a picture (PNG, JPEG, "
                         "WebP) or a .mien file.")  # fmt: skip
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise InputError("This file is empty.")
    if not any(head[at : at + len(magic)] == magic for at, magic in KINDS[suffix]):
        raise InputError(f"This file ends in {suffix} but is something else inside.")


@dataclass
class Session:
    """One open page: its folder, what may be fetched from it, and what its tabs remember (`memory`, by tab)."""

    key: str
    visitor: str
    folder: Path
    offered: dict[str, tuple[Path, str]] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)
    left: float | None = None
    job: Any = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def path(self, suffix: str) -> Path:
        """Make up a new path in the session's folder."""
        return self.folder / f"{secrets.token_hex(8)}{suffix}"

    def offer(self, path: Path, name: str) -> str:
        """Let the page fetch `path` as `name`; returns its address, which only this visitor can use."""
        token = secrets.token_urlsafe(12)
        self.offered[token] = (path, name)
        return f"/studio/file/{self.key}/{token}"

    def keep(self, tab: str, addresses: list[str]) -> None:
        """Keep a tab's newest results; those before are taken back, so that a folder holds one of each kind."""
        for old in self.memory.get(f"results of {tab}", []):
            self.forget(old)
        self.memory[f"results of {tab}"] = addresses

    def forget(self, address: str) -> None:
        """Take an offer back and remove its file."""
        found = self.offered.pop(address.rpartition("/")[2], None)
        if found is not None:
            found[0].unlink(missing_ok=True)


class Sessions:
    """All visitors, their uploads and sessions. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uploads = root / "uploads"
        self.uploads.mkdir(mode=0o700)
        (root / "sessions").mkdir(mode=0o700)
        self._owners: dict[Path, dict[str, float]] = {}  # of uploads: visitors, and since when
        self._sessions: dict[str, Session] = {}
        self._bound: dict[str, str] = {}  # session hash -> visitor, also before the session has a folder
        self._lock = threading.RLock()

    def bind(self, key: str, visitor: str) -> bool:
        """Tie a session to a visitor; returns whether it is theirs. The first who uses a session's name owns it."""
        if not (1 <= len(key) <= 64 and key.isalnum()):
            return False
        with self._lock:
            if len(self._bound) > 100_000:
                self._bound = {key: owner for key, owner in self._bound.items() if key in self._sessions}
            return self._bound.setdefault(key, visitor) == visitor

    def get(self, key: str, visitor: str) -> Session:
        """Return the visitor's session, made when it is first used. Raises InputError for another's."""
        if not self.bind(key, visitor):
            raise InputError("This page's session is not yours; reload the page.")
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                folder = self.root / "sessions" / secrets.token_hex(16)
                folder.mkdir(mode=0o700)
                session = self._sessions[key] = Session(key, visitor, folder)
            session.used, session.left = time.monotonic(), None
            return session

    def find(self, key: str, visitor: str) -> Session | None:
        """Find a session, if there is one and it is this visitor's."""
        with self._lock:
            session = self._sessions.get(key)
        return session if session is not None and secrets.compare_digest(session.visitor, visitor) else None

    def own(self, path: Path, visitor: str) -> None:
        """Note an upload. Raises InputError when the visitor has too much; the file is removed then."""
        with self._lock:
            self._owners.setdefault(path, {})[visitor] = time.monotonic()
            total = sum(p.stat().st_size for p, owners in self._owners.items() if visitor in owners and p.exists())
            if total > VISITOR_BYTES:
                self._disown(path, visitor)
                raise InputError(f"Together your files are larger than {VISITOR_BYTES // MEGABYTE} MB; reload the page "
                                 "to begin anew.")  # fmt: skip

    def owns(self, path: str | Path, visitor: str) -> bool:
        """Whether this visitor uploaded exactly this file."""
        with self._lock:
            return visitor in self._owners.get(Path(path), ())

    def take(self, session: Session, path: str | Path, kinds: tuple[str, ...]) -> Path:
        """Link an upload of the session's visitor as a file of the session's own folder.

        Raises InputError where it is another's, or of a kind that is not among `kinds`.
        """
        source = Path(path)
        if not self.owns(source, session.visitor):
            raise InputError("This file was not uploaded from this page.")
        check_kind(source)
        if source.suffix.lower() not in kinds:
            raise InputError(f"Here a file of another type is needed: {', '.join(kinds)}.")
        target = session.path(source.suffix.lower())
        os.link(source, target)  # the same bytes, however often they are taken
        return target

    def leave(self, key: str, visitor: str) -> None:
        """Note that the page was closed or reloaded: the session goes soon, unless it is used again."""
        session = self.find(key, visitor)
        if session is not None:
            session.left = time.monotonic()

    def sweep(self, now: float | None = None) -> int:
        """Remove sessions that are over, and the uploads of visitors who have none left; returns how many."""
        now = time.monotonic() if now is None else now
        with self._lock:
            over = [
                s for s in self._sessions.values()
                if (s.left is not None and now - s.left > LEFT_SECONDS) or now - s.used > IDLE_SECONDS
            ]  # fmt: skip
            for session in over:
                del self._sessions[session.key]
                self._bound.pop(session.key, None)
                if session.job is not None:
                    session.job.cancel()
                shutil.rmtree(session.folder, ignore_errors=True)
            here = {s.visitor for s in self._sessions.values()}
            gone = {s.visitor for s in over} - here
            for path, owners in list(self._owners.items()):
                for visitor, since in list(owners.items()):
                    if visitor in gone or (visitor not in here and now - since > LEFT_SECONDS):
                        self._disown(path, visitor)
            self._sweep_remains()
        return len(over)

    def close(self) -> None:
        """Cancel all jobs and remove everything."""
        with self._lock:
            for session in self._sessions.values():
                if session.job is not None:
                    session.job.cancel()
            shutil.rmtree(self.root, ignore_errors=True)

    def _sweep_remains(self) -> None:
        """Remove what uploads that were broken off have left."""
        kept = {path.parent for path in self._owners}
        for entry in self.uploads.iterdir():
            try:
                if entry not in kept and time.time() - entry.stat().st_mtime > IDLE_SECONDS:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            except OSError:
                continue  # somebody else was quicker

    def discard(self, path: Path) -> None:
        """Remove a refused upload that is nobody's."""
        with self._lock:
            if self.uploads in path.parents and not self._owners.get(path):
                self._remove(path)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        if path.parent != self.uploads and not any(path.parent.glob("*")):
            path.parent.rmdir()

    def _disown(self, path: Path, visitor: str) -> None:
        owners = self._owners.get(path, {})
        owners.pop(visitor, None)
        if not owners:
            self._owners.pop(path, None)
            self._remove(path)
