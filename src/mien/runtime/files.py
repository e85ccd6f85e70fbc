"""Writing files so that a failure or Ctrl-C never harms what was there before."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mien.errors import MienError, OutputError


def check_output(path: str | os.PathLike[str], suffixes: tuple[str, ...] = ()) -> Path:
    """Say before long work starts whether `path` can be written; returns it as a `Path`.

    `suffixes` (lower case, with the dot) are the endings that are allowed, any when empty.
    Raises OutputError when the folder is missing or not writable, `path` is a folder, or the ending is not allowed.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"the output {path} must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise OutputError(f"the output {path} is a folder, not a file.")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"the output folder {folder} does not exist.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the output folder {folder} cannot be written to.")
    return path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block ends well, and is removed if it does not.

    Raises OutputError as `check_output` does, and MienError when the disk is full.
    """
    path = check_output(path)
    # The ending is kept last, since image and video writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
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
