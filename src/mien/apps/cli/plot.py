"""`mien plot`: a stream's or an alignment's curves."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.apps.cli.common import Output, pack_of


def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .mien file, or the JSON of `mien align`.")],
    output: Output,
    pack: Annotated[
        str | None, typer.Option("--pack", metavar="PACK", help="The pack whose channels are named; found by its name.")
    ] = None,
) -> None:
    """Draw the 35 curves of a .mien file, grouped by attribute (.png, .pdf or .svg).

    Example: mien plot clip.mien -o curves.png
    """
    from mien.apps.cli.plots import PLOT_SUFFIXES, plot_file
    from mien.runtime.files import check_output

    check_output(output, PLOT_SUFFIXES, (file,))
    channels: tuple[Any, ...] = ()
    if file.suffix.lower() != ".json":
        from mien.errors import PackError
        from mien.format.stream import Stream
        from mien.packs.pack import Pack

        if pack is not None:
            channels = pack_of(pack).channels
        else:
            with suppress(PackError):
                channels = Pack.named(Stream.load(file).pack_name).channels
    plot_file(file, output, channels)
    print(output)
