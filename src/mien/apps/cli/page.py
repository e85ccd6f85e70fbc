"""`mien page`: streams as a web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.apps.cli.common import PersonFile


def page(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.mien...", help="What `mien encode` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")],
    clip: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CLIP",
            help="The video that a stream was encoded from, to compare bytes; once for each FILE. If not given, a video "
            "of the same name beside it.",
        ),
    ] = None,
    people: Annotated[
        int, typer.Option(min=0, max=48, metavar="N", help="How many faces of the pack can be chosen.")
    ] = 6,
    title: Annotated[str, typer.Option(metavar="TEXT", help="The page's heading; the first file's name.")] = "",
    person: PersonFile = None,
) -> None:
    """Write a folder that plays .mien files in any web browser, with nothing installed and no server behind it.

    Put the folder on any static host, or look at it here: python -m http.server -d FOLDER

    It needs a pack of up to 256x256 with a StyleGAN2 generator, as `mini`.

    Example: mien page clip.mien -o site

    Example: mien page anna.mien ben.mien -o site --title "Two people"
    """
    from mien.apps.page.build import PageOptions, build_page, check_folder, read_entry
    from mien.errors import InputError

    options = PageOptions(people, title)
    clips: list[Path | None] = [*clip] if clip else [None for _ in files]
    if len(clips) != len(files):
        raise InputError(f"--clip is given {len(clips)} times for {len(files)} files: give it once for each, or not.")
    check_folder(output, (*files, person))
    entries = [read_entry(file, person, video) for file, video in zip(files, clips, strict=True)]
    size = build_page(entries, output, options)
    print(f"{output}: {size:,} bytes")
