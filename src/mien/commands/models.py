"""`mien models`: the packs that are at hand or can be had."""

from __future__ import annotations

from typing import Annotated

import typer

from mien.commands.common import progress_bars

models = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Packs: the networks that all work is done with."
)


@models.command("list")
def models_list() -> None:
    """List the packs that are at hand, and those that can be pulled.

    Example: mien models list
    """
    from mien.packs import zoo

    for line in zoo.listing():
        print(line)


@models.command("pull")
def models_pull(name: Annotated[str, typer.Argument(metavar="NAME", help="As `mien models list` names it.")]) -> None:
    """Fetch the official checkpoints and convert them into a pack.

    Example: mien models pull ffhq1024
    """
    from mien.packs import zoo

    with progress_bars() as progress:
        print(zoo.pull(name, progress=progress))


@models.command("verify")
def models_verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pack's name, or the path of a pack file.")],
) -> None:
    """Check a pack: its hash, its networks, its channels, one image through all of it.

    Example: mien models verify mini
    """
    from mien.packs import convert

    for line in convert.verify(name):
        print(line)
