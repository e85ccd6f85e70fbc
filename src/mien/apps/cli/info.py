"""`mien info`: what is in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.apps.cli.common import PersonFile, person_folder


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .mien file, or a .person file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    person: PersonFile = None,
) -> None:
    """Say what is in a .mien or .person file, and account for every byte.

    Example: mien info clip.mien
    """
    from mien.format.stream import Stream

    if file.suffix.lower() == ".person":
        _person_info(file, as_json)
        return
    facts = Stream.inspect(file)
    facts["person_file"] = _person_file(file, person)
    if as_json:
        print(json.dumps(facts, indent=2))
        if facts["damage"]:
            raise typer.Exit(2)
        return
    sizes, rates = facts["bytes"], facts["rate"]
    rows = [
        ("frames", f"{facts['frames']} at {facts['fps']} a second, {facts['seconds']:.2f} s"),
        ("pack", f"{facts['pack_name']} ({facts['pack'][:12]}), {facts['resolution']}x{facts['resolution']}"),
        ("identity", f"{facts['num_ws']} x {facts['w_dim']} half floats"),
        ("format", f"version {facts['version']}, {facts['coding']}"),
    ]
    for name, value in rows:
        print(f"{name:<10}{value}")
    print()
    counted = [name for name in sizes if name not in ("per_frame", "total")]
    for name in [*counted, "total"]:
        note = f"  = {facts['frames']} x {sizes['per_frame']}" if name == "frames" else ""
        print(f"{name:<10}{sizes[name]:>10,} bytes{note}")
    if facts["person"]:
        found = facts["person_file"]
        size = f"{found['tuning']:,} bytes of tuning in {found['file']}" if found else "not here"
        print(f"person    '{facts['person_name']}' ({facts['person'][:12]}): {size}")
    print()
    for name, value in rates.items():
        print(f"{name.replace('_', ' '):<14}{value / 1000:>8.2f} kbit/s")
    for damage in facts["damage"]:
        print(f"mien: {file} is damaged: {damage['sentence']}.", file=sys.stderr)
    if facts["damage"]:
        raise typer.Exit(2)


def _person_info(file: Path, as_json: bool) -> None:
    from mien.format.person import Person

    facts = Person.load(file).facts()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in (
        ("person", f"{facts['name']} ({facts['fingerprint'][:12]})"),
        ("pack", f"{facts['pack_name']} ({facts['pack'][:12]}), {facts['resolution']}x{facts['resolution']}"),
        ("identity", f"{facts['num_ws']} x {facts['w_dim']} half floats"),
        ("weights", facts["weights"]),
    ):
        print(f"{name:<10}{value}")
    print()
    for name, value in facts["bytes"].items():
        print(f"{name:<10}{value:>10,} bytes")


def _person_file(file: Path, given: Path | None) -> dict[str, Any] | None:
    """Find the person that a stream names, and its bytes; None where it names none, or it is not here."""
    from mien.errors import PackError
    from mien.format.person import locate_person
    from mien.format.stream import Stream

    stream, _ = Stream.salvage(file)
    try:
        found = locate_person(stream, person_folder(given, file))
    except PackError:
        return None
    if found is None:
        return None
    path, who = found
    return {"file": str(path), **who.accounting()}
