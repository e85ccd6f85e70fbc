"""`mien doctor`: what is here, what is missing, what to do."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what of all that mien uses is here, what is missing, and what to do about it.

    Exit code 0: everything that encode and render need is here. 1: something of it is missing.

    Example: mien doctor
    """
    from mien.apps.diagnosis import diagnose

    found = diagnose()
    if as_json:
        print(json.dumps(found.facts(), indent=2))
    else:
        width = max(len(check.name) for check in found.checks)
        for title, needed in (("needed to encode and render", True), ("for more", False)):
            print(title)
            for check in found.checks:
                if check.needed == needed:
                    said = check.found or f"missing: {check.remedy}"
                    print(f"  {'+' if check.ok else '-'} {check.name:<{width}}  {said}")
        print("ready." if found.ok else "not ready: see the lines with - in the first part.")
    if not found.ok:
        raise typer.Exit(1)
