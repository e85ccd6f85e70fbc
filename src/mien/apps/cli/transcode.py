"""`mien transcode`: between 70 bytes a frame and coded frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.apps.cli.common import (
    Device,
    Output,
    PersonFile,
    StreamFile,
    StreamPack,
    checked_device,
    person_folder,
    progress_bars,
    summary,
)
from mien.errors import InputError, PackError

if TYPE_CHECKING:
    from mien.format.stream import Stream


def transcode(
    file: StreamFile,
    output: Output,
    quality: Annotated[
        float | None,
        typer.Option(metavar="DB", help="PSNR that every rendered frame of OUT has against FILE's; 45 if not given."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="BITS", help="Instead: the most bits a second, identity and tuning apart.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Back to 70 bytes a frame.")] = False,
    salvage: Annotated[bool, typer.Option("--salvage", help="Take what is left of a damaged FILE.")] = False,
    key_interval: Annotated[
        int | None, typer.Option(min=1, metavar="FRAMES", help="From one key frame to the next; 120 if not given.")
    ] = None,
    pack: StreamPack = None,
    person: PersonFile = None,
    device: Device = "auto",
) -> None:
    """Code the frames of a .mien file in a tenth of their bytes, or make them plain again.

    Example: mien transcode clip.mien -o small.mien --rate 3500

    Example: mien transcode small.mien -o plain.mien --raw
    """
    from mien.format.motion_codec import DEFAULT_KEY_INTERVAL
    from mien.format.rate_control import check_coding
    from mien.format.rate_control import raw as plain
    from mien.format.stream import Stream
    from mien.runtime.files import check_output

    check_output(output, (".mien",), (file,))
    if raw and any(option is not None for option in (quality, rate, key_interval)):
        raise InputError("--raw goes with none of --quality, --rate and --key-interval.")
    if not raw:
        check_coding(quality, rate, DEFAULT_KEY_INTERVAL if key_interval is None else key_interval)
    stream, damages = Stream.salvage(file) if salvage else (Stream.load(file), ())
    if raw:
        result = plain(stream)
    else:
        result = apply_rate(stream, quality, rate, key_interval, pack, device, person_folder(person, file))
    result.save(output)
    print(f"{output}: {summary(result)}")
    for damage in damages:
        typer.echo(f"mien: {file} is damaged: {damage.sentence}.", err=True)


def apply_rate(
    stream: Stream, quality: float | None, rate: float | None, key_interval: int | None, pack: str | None, device: str,
    person: Any = None,
) -> Stream:  # fmt: skip
    """Code a stream, its quantiser steps tied to what its own pack shows.

    Without the pack, to how far each curve swings.
    """
    import numpy as np

    from mien.format.motion_codec import DEFAULT_KEY_INTERVAL
    from mien.format.rate_control import assumed_sensitivity
    from mien.format.rate_control import transcode as code
    from mien.method.stage6_render.render_probe import DEFAULT_PROBES, RenderProbe

    where = checked_device(device)
    probe: RenderProbe | None = None
    with progress_bars() as progress:
        try:
            with progress.stage("sensitivity", 70 * DEFAULT_PROBES) as tick:
                probe = RenderProbe(stream, pack=pack, person=person, device=where, tick=tick)
                sensitivity = probe.sensitivity()
        except PackError as error:
            if pack is not None:
                raise
            typer.echo(f"mien: {error} The steps are taken from the curves alone.", err=True)
            sensitivity = assumed_sensitivity(stream.frames)
        with progress.stage("code", None) as tick:
            if probe is not None:
                probe.tick = lambda images: None
            result = code(
                stream,
                quality=quality,
                rate=rate,
                sensitivity=sensitivity,
                look=probe.psnr if probe is not None else None,
                key_interval=key_interval or DEFAULT_KEY_INTERVAL,
                tick=tick,
            )
    if probe is not None:
        seen = probe.psnr(result.frames)
        mean = 10 * np.log10(1 / np.mean(10 ** (-seen / 10)))
        print(f"coded against plain render: {mean:.1f} dB, the worst frame {seen.min():.1f} dB")
    return result
