"""How `python -m mien.train` and `python -m mien.train.mobile` are run."""

from __future__ import annotations

import sys

import typer

from mien.errors import MienError
from mien.runtime.malloc import tune_malloc


def run(app: typer.Typer) -> None:
    """Run a command line; what cannot be used is said in one sentence, with the error's exit code."""
    tune_malloc()
    try:
        app()
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
