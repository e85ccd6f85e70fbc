"""Writing files so that a failure or Ctrl-C never harms what was there before."""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mien.errors import MienError, OutputError


def check_output(
    path: str | os.PathLike[str], suffixes: tuple[str, ...] = (), inputs: Iterable[str | os.PathLike[str] | None] = ()
) -> Path:
    """Say before long work starts whether `path` can be written; returns it as a `Path`.

    `suffixes` (lower case, with the dot) are the endings that are allowed, any when empty.
    `inputs` are the files that are read, which must not be `path` by any name or link; None among them are left out.
    Raises OutputError when the folder is missing or not writable, `path` is a folder or an input, its name is too long for the
    file system, or the ending is not allowed.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"the output {path} must end in {' or '.join(suffixes)}.")
    _check_name(path)
    try:
        folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
        exists, is_folder = path.exists(), path.is_dir()
        there = folder.is_dir()
    except OSError as error:
        raise OutputError(f"the output {path} cannot be written: {error.strerror}.") from error
    if is_folder:
        raise OutputError(f"the output {path} is a folder, not a file.")
    if not there:
        raise OutputError(f"the output folder {folder} does not exist.")
    if exists and not path.is_file():  # a pipe or a device is written to, and not replaced
        if not os.access(path, os.W_OK):
            raise OutputError(f"the output {path} cannot be written to.")
    elif not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the output folder {folder} cannot be written to.")
    for read in inputs:
        if exists and read is not None and os.path.exists(read) and os.path.samefile(path, read):
            raise OutputError(f"the output {path} is the input {read} itself: take another name.")
    return path


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Say before long work starts whether files can be written to the folder `path`, which may be new; returns it as a `Path`.

    Raises OutputError where it is a file, or it, or for a new one its parent, is missing or not writable.
    """
    path = Path(path)
    _check_name(path)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise OutputError(f"the output folder {path} cannot be written: {error.strerror}.") from error
    if exists and not is_folder:
        raise OutputError(f"the output {path} is a file, not a folder.")
    folder = path if exists else path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"the output folder {folder} does not exist.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the output folder {folder} cannot be written to.")
    return path


def check_outputs_differ(*paths: str | os.PathLike[str] | None) -> None:
    """Raise OutputError if two of the files that are to be written are one; None is left out."""
    seen: dict[str, str | os.PathLike[str]] = {}
    for path in paths:
        if path is not None and seen.setdefault(os.path.realpath(path), path) is not path:
            raise OutputError(f"two outputs are the same file, {path}: take another name for one.")


def sibling(path: Path, ending: str) -> Path:
    """`path` with `ending` after its name, or after as much of it as the file system allows, with a hash of all of it."""
    name = path.name + ending
    if len(os.fsencode(name)) > _longest_name(path.parent):
        name = f".mien-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{ending}"
    return path.with_name(name)


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file: UTF-8, or what its byte order mark says; the mark is left out. Raises OSError, UnicodeDecodeError."""
    return decode_text(Path(path).read_bytes())


def decode_text(data: bytes) -> str:
    """Bytes of a text file as `read_text` reads them. Raises UnicodeDecodeError."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return data.decode("utf-32")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def lock(file: IO[Any]) -> bool:
    """Lock an open file for this process until it is closed; False where another process has done so.

    True too where the system or the file system has no locks (some network drives): two runs at once are then the user's care.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return 255


def _check_name(path: Path) -> None:
    longest = _longest_name(path.parent)
    if len(os.fsencode(path.name)) > longest:
        raise OutputError(
            f"the output's name is longer than the {longest} bytes that its folder allows: {path.name[:40]}..."
        )


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block ends well, and is removed if it does not.

    Where `path` is a link, what it leads to is replaced; where it is a pipe or a device, it is yielded itself.
    Raises OutputError as `check_output` does, and MienError when the disk is full.
    """
    path = check_output(path)
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))
    # The ending is kept last, since image and video writers choose their format by it.
    temporary = path.with_name(f".mien-{secrets.token_hex(8)}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise MienError(f"the disk is full: {path} was not written.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` in one step: all of it or none of it. Raises as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step. Raises as `atomic_path` does."""
    write_bytes(path, text.encode())
