"""A file of runs, one JSON object a line, that a benchmark which was stopped goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class RunFile:
    """`key in runs`: whether it holds a run with these values of `fields`; `runs.add(record)` writes one more."""

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
        return tuple(record[field] for field in self._fields)
