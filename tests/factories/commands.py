"""The type of the fixture that runs commands."""

from __future__ import annotations

from typing import Protocol


class Run(Protocol):
    """Run a command of `mien` in this process; returns its exit code, its stdout and its stderr."""

    def __call__(self, *arguments: object) -> tuple[int, str, str]: ...
