"""Node.js, for the web page's JavaScript: tests that need it skip with a sentence where it is missing."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from factories import ROOT, TESTS

WEB = ROOT / "src" / "mien" / "apps" / "page" / "web"
SCRIPTS = TESTS / "unit" / "apps" / "page"
needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="Node.js is not here: the page's JavaScript is not tested"
)


def node(script: str, *arguments: object) -> str:
    """Run one of the scripts beside the page's tests; returns its stdout."""
    command = ["node", str(SCRIPTS / script), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_with_the_page(files: Sequence[bytes], folder: Path) -> list[dict[str, Any]]:
    """What the page's reader makes of each file: its numbers, or `refused` and `fault`."""
    bundle = folder / "bundle.bin"
    bundle.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in files))
    return [json.loads(line) for line in node("read_bundle.mjs", WEB, bundle).splitlines()]
