"""`mien edit`: a recipe applied to a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.apps.cli.common import Output, StreamFile, StreamPack, summary


def edit(
    file: StreamFile,
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="What to do to its curves (docs/guide/editing.md).")
    ],
    output: Output,
    pack: StreamPack = None,
) -> None:
    """Bend the curves of a .mien file: scale, offset, smooth, copy, mix, cut, keep.

    The recipe is a TOML file of [[edit]] tables, as: do = "scale", what = "mouth", factor = 1.4. The result is an
    ordinary .mien file.

    Example: mien edit clip.mien recipe.toml -o edited.mien
    """
    from mien.format.stream import Stream
    from mien.runtime.files import check_output

    check_output(output, (".mien",), (file, recipe))
    stream = Stream.load(file)
    from mien.editing.recipe import read_recipe, streams_of

    check_output(output, (".mien",), streams_of(recipe))
    operations = read_recipe(recipe)
    from mien.editing.operations import edit as run

    result = run(stream, operations, pack=pack)
    result.save(output)
    print(f"{output}: {len(operations)} edit{'s' if len(operations) != 1 else ''}; {summary(result)}")
