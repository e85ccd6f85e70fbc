"""Resumable downloads: mirrors in order, a checked file or none."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import MienError, PackError
from mien.runtime.progress import Progress

TIMEOUT = 30.0  # seconds without a byte before a mirror is given up
_BLOCK = 1 << 18
_MIB = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file that others publish.

    `name`: what it is called here; `urls`: mirrors in the order they are tried; `page`: where a person can get it;
    `size` in bytes where known; `sha256`: the accepted hashes, or `git_blob`: its hash as git has it; with neither,
    the content alone decides. `optional`: the pack works without it.
    """

    name: str
    urls: tuple[str, ...]
    page: str
    licence: str
    size: int | None = None
    sha256: tuple[str, ...] = ()
    git_blob: str = ""
    optional: bool = False


class Unavailable(MienError):
    """A file could not be had from any mirror. `offline`: not one of them could be reached."""

    def __init__(self, reason: str, offline: bool) -> None:
        super().__init__(reason)
        self.offline = offline


def fetch(remote: Remote, path: Path, check: Callable[[Path, Remote], None], progress: Progress) -> None:
    """Downloads `remote` to `path`. What came of an interrupted download lies beside it as `.part` and is used again.

    `check` raises `PackError` when a finished file is not the right one; it is deleted then, and the next mirror tried.
    Raises `Unavailable` when no mirror gave the file, `MienError` when it does not fit on the disk.
    """
    reasons: list[str] = []
    offline = True
    for url in remote.urls:
        part = path.with_name(path.name + ".part")
        try:
            _transfer(url, remote, part, progress)
            check(part, remote)
            os.replace(part, path)
            _note(part).unlink(missing_ok=True)
            return
        except PackError:
            offline = False
            _discard(part)
            reasons.append(f"{_host(url)} sent another file")
        except _WebPage:
            offline = False
            _discard(part)
            reasons.append(f"{_host(url)} answered with a web page that a person must click through")
        except urllib.error.HTTPError as error:
            offline = False
            reasons.append(f"{_host(url)} answered {error.code} {error.reason}")
        except urllib.error.URLError as error:
            reasons.append(f"{_host(url)} cannot be reached: {error.reason}")
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            offline = False
            reasons.append(f"the connection to {_host(url)} broke: {error or type(error).__name__}")
        except OSError as error:
            raise MienError(f"{part} cannot be written: {error.strerror or error}.") from None
    raise Unavailable("; ".join(reasons), offline)


class _WebPage(Exception):
    """A page came instead of the file."""


def _host(url: str) -> str:
    return url.split("/")[2]


def _note(part: Path) -> Path:
    """Beside a `.part`: which version of which URL it is a part of."""
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _read(response: Any) -> bytes:
    """The next block. Raises ConnectionError where the connection is no more, whatever the system calls that."""
    try:
        block: bytes = response.read(_BLOCK)
    except OSError as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    return block


def _transfer(url: str, remote: Remote, part: Path, progress: Progress) -> None:
    """Brings `part` to the whole length of what `url` serves."""
    done = part.stat().st_size if part.is_file() and _read_note(part).get("url") == url else 0
    request = urllib.request.Request(url, headers={"User-Agent": "mien"})
    tag = _read_note(part).get("tag")
    if done:
        request.add_header("Range", f"bytes={done}-")
        if tag:
            request.add_header("If-Range", tag)  # start anew if the file was changed meanwhile
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # https URLs of our own table
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left to send: the part is whole, or `check` will tell
            return
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise _WebPage
        if response.status != 206:
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else remote.size
        if total is not None and total - done > shutil.disk_usage(part.parent).free:
            raise MienError(f"{remote.name} needs {total // _MIB} MiB, more than is free in {part.parent}.")
        _note(part).write_text(json.dumps({"url": url, "tag": response.headers.get("ETag")}))
        with (
            part.open("ab" if done else "wb") as file,
            progress.stage(remote.name, None if total is None else -(-total // _MIB), unit="MiB") as tick,
        ):
            tick(done // _MIB)
            while block := _read(response):
                before = done // _MIB
                file.write(block)
                done += len(block)
                tick(done // _MIB - before)
    if total is not None and done < total:
        raise ConnectionError(f"{done} of {total} bytes came")


def _read_note(part: Path) -> dict[str, str]:
    try:
        note = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
