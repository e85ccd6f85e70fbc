"""`python -m mien.train STEP`: make a pack from faces, one command a network.

Each step resumes from its own folder, is seeded, and leaves its loss curve and contact sheets there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.errors import InputError
from mien.train.command import run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Option("--data", help="Folder that the `data` step wrote.")]


@app.command()
def data(
    faces: Annotated[Path, typer.Option(help="Folder (.webp, .png, .jpg) or .tar of face images.")],
    clips: Annotated[Path, typer.Option(help="Folder of .mp4 clips, one person each.")],
    inset: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of a clip's sides that another picture covers, lower left.")
    ] = 0.0,
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("runs/data"),
) -> None:
    """Align faces and clip frames, label them with the face mesh."""
    from mien.train.data import prepare

    prepare(faces, clips, out, inset)


@app.command()
def parser(
    data: Folder = Path("runs/data"),
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("runs/parser"),
    minutes: float = 8.0,
    seed: int = 0,
) -> None:
    """Train the face parser, whose features are also the perceptual network."""
    from mien.train.parser import train

    train(data, out, minutes=minutes, seed=seed)


@app.command()
def identity(
    data: Folder = Path("runs/data"),
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("runs/identity"),
    minutes: float = 5.0,
    seed: int = 0,
) -> None:
    """Train the identity network."""
    from mien.train.identity import train

    train(data, out, minutes=minutes, seed=seed)


@app.command()
def autoencoder(
    data: Folder = Path("runs/data"),
    parser: Annotated[Path, typer.Option(help="Folder of the trained parser.")] = Path("runs/parser"),
    identity: Annotated[Path | None, typer.Option(help="Folder of the trained identity network, if any.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("runs/ae"),
    size: Annotated[int, typer.Option(help="Resolution of this phase: 64, then 128, then 256.")] = 64,
    resolution: Annotated[int, typer.Option(help="Resolution of the finished generator.")] = 256,
    start: Annotated[Path | None, typer.Option(help="Pack whose weights a new run starts from.")] = None,
    minutes: float = 40.0,
    batch: int = 16,
    rate: float = 2e-3,
    adversary: Annotated[float, typer.Option(help="Weight of the adversary; 0 leaves it out.")] = 0.0,
    decay: Annotated[bool, typer.Option(help="Let the learning rate fall over the second half.")] = False,
    freeze_below: Annotated[int, typer.Option(help="Train only the generator's blocks from this resolution on.")] = 0,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Train generator, encoder and head-pose flow together, at one resolution after the other."""
    from mien.train.autoencoder.loop import AutoencoderOptions, train

    options = AutoencoderOptions(
        size=size, resolution=resolution, minutes=minutes, batch=batch, rate=rate, adversary=adversary,
        decay_rate=decay, seed=seed, start=start, freeze_below=freeze_below, device=device, identity_run=identity,
    )  # fmt: skip
    train(data, parser, out, options)


@app.command()
def channel_locality(
    pack: Path = Path("src/mien/packs/mini/mini.safetensors"),
    data: Folder = Path("runs/data"),
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("runs/local"),
    minutes: float = 30.0,
    batch: int = 8,
    rate: float = 5e-4,
    seed: int = 0,
) -> None:
    """Fine-tune each channel of a pack to change its attribute's mask only."""
    from mien.train.channel_locality import train

    train(pack, data, out, minutes=minutes, batch=batch, rate=rate, seed=seed)


@app.command()
def export_pack(
    autoencoder: Path = Path("runs/ae"),
    parser: Path = Path("runs/parser"),
    identity: Annotated[Path | None, typer.Option(help="Folder of the trained identity network.")] = None,
    data: Folder = Path("runs/data"),
    resolution: Annotated[int, typer.Option(help="Stop the generator at this resolution.")] = 256,
    channels: Annotated[Path | None, typer.Option(help="JSON that the `channels` step wrote.")] = None,
    card: Annotated[Path | None, typer.Option(help="JSON to keep in the pack as its card.")] = None,
    name: Annotated[
        str | None, typer.Option(help="The pack's name, which streams carry.", show_default="the file's")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("src/mien/packs/mini/mini.safetensors"),
) -> None:
    """Export the trained networks as a pack file."""
    import json

    from mien.train import export_pack as pack_file

    out.parent.mkdir(parents=True, exist_ok=True)
    facts = json.loads(card.read_text()) if card else None
    pack = pack_file.export_pack(
        autoencoder,
        parser,
        identity,
        data,
        out,
        resolution=resolution,
        name=name or out.stem,
        channels=channels,
        card=facts,
    )
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, fingerprint {pack.fingerprint[:16]}")


@app.command()
def channels(
    pack: Path = Path("src/mien/packs/mini/mini.safetensors"),
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("runs/channels"),
    people: Annotated[int, typer.Option(help="How many of the pack's people to average over.")] = 8,
    layers: Annotated[
        str, typer.Option(help="StyleSpace layers to try, such as 6,8,9,11; empty: all but ToRGB's.")
    ] = "",
) -> None:
    """Choose the 32 channels V by index sensitivity (Eq. 5)."""
    from mien.train.channels import run as choose

    try:
        chosen = [int(x) for x in layers.split(",")] if layers else None
    except ValueError as error:
        raise InputError(
            f"--layers takes numbers with commas between them, such as 6,8,9,11, not {layers!r}."
        ) from error
    choose(pack, out, people=people, layers=chosen)


if __name__ == "__main__":
    run(app)
