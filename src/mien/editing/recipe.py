"""Recipes: the operations of `mien.editing.operations` in a small TOML file (docs/guide/editing.md).

[[edit]]
do = "scale"
what = "mouth"
factor = 1.4

[[edit]]
do = "mix"
other = "second.mien"        # beside the recipe
what = ["eyes", "brows"]
weight = 0.7
start = 1.0
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from mien.editing.operations import OPERATIONS, Operation
from mien.errors import InputError
from mien.format.stream import Stream
from mien.runtime.files import decode_text

MOST_EDITS = 1000
MOST_BYTES = 1 << 20


def read_recipe(path: str | Path) -> list[Operation]:
    """Read the operations of a recipe file, in order; other streams are read from paths relative to its folder.

    Raises InputError that says which edit is wrong and how, and StreamError for a stream that cannot be read.
    """
    path = Path(path)
    entries = _entries(path)
    return [_operation(entry, f"{path}, edit {i}", path.parent) for i, entry in enumerate(entries, start=1)]


def streams_of(path: str | Path) -> list[Path]:
    """The files of the other streams that a recipe reads. Raises InputError as `read_recipe`."""
    path = Path(path)
    named = [entry.get("other") for entry in _entries(path) if isinstance(entry, dict)]
    return [path.parent / name for name in named if isinstance(name, str)]


def _entries(path: Path) -> list[Any]:
    """The tables of a recipe file, not looked into."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError(f"{path} is too large for a recipe.")
        recipe = tomllib.loads(decode_text(data))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from error
    entries = recipe.get("edit")
    if set(recipe) != {"edit"} or not isinstance(entries, list) or not entries:
        raise InputError(f"{path} is not a recipe: it needs one or more [[edit]] tables and nothing beside them.")
    if len(entries) > MOST_EDITS:
        raise InputError(f"{path} has {len(entries)} edits; {MOST_EDITS} are allowed.")
    return entries


def _operation(entry: Any, where: str, folder: Path) -> Operation:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not a table.")
    entry = dict(entry)
    name = entry.pop("do", None)
    kind = OPERATIONS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InputError(f"{where}: do must be one of {', '.join(OPERATIONS)}, not {name!r}.")
    known = {f.name: f for f in fields(kind)}
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise InputError(f"{where}: {name} has no {unknown[0]!r}; it takes {', '.join(known)}.")
    missing = [key for key, f in known.items() if f.default is MISSING and key not in entry]
    if missing:
        raise InputError(f"{where}: {name} needs {missing[0]!r}.")
    return kind(**{key: _value(key, value, f"{where}: {key}", folder) for key, value in entry.items()})


def _value(key: str, value: Any, where: str, folder: Path) -> Any:
    if key == "what":
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where} must be a name or a list of names.")
        return tuple(names)
    if key in ("about", "other"):
        if not isinstance(value, str):
            raise InputError(f"{where} must be a text.")
        return Stream.load(folder / value) if key == "other" else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where} must be a number.")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(f"{where} is too large.") from error
