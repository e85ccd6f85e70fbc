"""`mien studio`: the page."""

from __future__ import annotations

from typing import Annotated

import typer

from mien.apps.cli.common import PackName


def studio(
    host: Annotated[str, typer.Option(metavar="HOST", help="Where to listen; 127.0.0.1 is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 7860,
    pack: PackName = "mini",
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of the pictures; 256 where the pack draws that.")
    ] = None,
) -> None:
    """Serve the studio: encode, puppeteer, edit and explore in a browser.

    It works without a network, and asks nobody anything. Another HOST than 127.0.0.1 opens it to others, who need no
    password: they can use this machine's time, but see none of each other's files.

    Example: mien studio --port 8000
    """
    from mien.apps.studio.app import serve

    serve(host, port, pack, size)
