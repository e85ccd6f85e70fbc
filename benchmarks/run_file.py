"""A file of runs, one JSON object a line, that a benchmark which was stopped goes on from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class RunFile:
    """`key in runs`: whether it holds a run with these values of `fields`; `runs.add(record)` writes one more. A field
    that a record does not have is None."""

    def __init__(self, path: Path, *fields: str) -> None:
        self._path, self._fields = path, fields
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {self._key(json.loads(line)) for line in lines}

    def __contains__(self, key: tuple[Any, ...]) -> bool:
        return key in self._known

    def add(self, record: dict[str, Any]) -> None:
        """Write a run at the end of the file."""
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self._known.add(self._key(record))

    def _key(self, record: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(record.get(field) for field in self._fields)


def tables(lines: Iterable[str], table: Callable[[list[dict[str, Any]]], str]) -> str:
    """The `table` of all runs in a file that were made with the same `settings`, one after the other below these."""
    by_settings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in map(json.loads, lines):
        by_settings[record.get("settings", "")].append(record)
    return "\n\n".join(f"{settings}\n\n{table(runs)}".lstrip() for settings, runs in by_settings.items())
