"""`mien puppeteer`: a portrait does what a driver does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.apps.cli.common import (
    C2paCert,
    C2paKey,
    Device,
    Duration,
    Face,
    Output,
    PersonFile,
    PersonSize,
    Seed,
    Sound,
    Start,
    Tune,
    checked_device,
    input_panels,
    person_bytes,
    person_folder,
    progress_bars,
    summary,
    write_frames,
)
from mien.apps.cli.encoding import encode_with_bars


def puppeteer(
    driver: Annotated[Path, typer.Argument(metavar="DRIVER", help="Who moves: a .mien file or a video.")],
    portrait: Annotated[Path, typer.Argument(metavar="PORTRAIT", help="Who is seen: an image, .mien or .person.")],
    output: Output,
    compare: Annotated[bool, typer.Option("--compare", help="Show the driver on the left.")] = False,
    strength: Annotated[
        float, typer.Option(min=0.0, max=3.0, help="Scale all motion about the driver's usual pose and expression.")
    ] = 1.0,
    smoothing: Annotated[
        float, typer.Option(min=0.0, max=10.0, metavar="S", help="Smooth the motion over so many seconds.")
    ] = 0.0,
    blink: Annotated[bool, typer.Option("--blink/--no-blink", help="The driver's lids, or the portrait's own.")] = True,
    gaze: Annotated[bool, typer.Option("--gaze/--no-gaze", help="The driver's gaze, or the portrait's own.")] = True,
    relative: Annotated[
        bool,
        typer.Option("--relative/--absolute", help="Take changes from the driver's rest, or the driver's own values."),
    ] = False,
    pack: Annotated[
        str | None, typer.Option("--pack", metavar="PACK", help="A pack's name or path; a .mien driver names its own.")
    ] = None,
    tune: Tune = True,
    person_size: PersonSize = None,
    person: PersonFile = None,
    start: Start = 0.0,
    duration: Duration = None,
    device: Device = "auto",
    seed: Seed = 0,
    face: Face = None,
    sound: Sound = True,
    c2pa_cert: C2paCert = None,
    c2pa_key: C2paKey = None,
) -> None:
    """Let the portrait's person do what the driver does.

    A video as the driver is encoded first. The generator is tuned to the portrait, and to what it looks like where the
    driver takes it; with --no-tune a .mien or .person is taken as it is, at once. OUT may be a .mien file too: the
    portrait's identity with the driver's 35 numbers a frame; of a .person it then names the person as it is.

    Example: mien puppeteer clip.mien portrait.png -o puppet.mp4 --compare
    """
    from mien.apps.provenance import load_signer
    from mien.format.person import Person
    from mien.format.stream import Stream
    from mien.media.video import VIDEO_SUFFIXES, read_image, read_video
    from mien.runtime.files import check_output

    check_output(output, (*VIDEO_SUFFIXES, ".mien"))
    signer = load_signer(c2pa_cert, c2pa_key, output) if output.suffix.lower() in VIDEO_SUFFIXES else None
    where = checked_device(device)
    is_stream = driver.suffix.lower() == ".mien"
    clip = None if is_stream else read_video(driver, start, duration)
    stream = Stream.load(driver) if is_stream else None
    kinds: dict[str, Any] = {".mien": Stream.load, ".person": Person.load}
    seen: Any = kinds.get(portrait.suffix.lower(), read_image)(portrait)
    size = person_bytes(person_size)
    if stream is None:
        from mien.options import EncodeOptions

        options = EncodeOptions.of(tune=tune, start=start, duration=duration, seed=seed, face=face, sound=sound)
        stream, _ = encode_with_bars(driver, pack or "mini", options, device)
    from mien.method.stage6_render.render import render as make_frames
    from mien.reenact.puppeteer import puppeteer as make_puppet

    name = pack or stream.pack_name
    named = isinstance(seen, Person) and output.suffix.lower() == ".mien"
    with progress_bars() as progress:
        puppet = make_puppet(
            stream, seen, pack=name, device=where, tune_portrait=tune and not named, person_size=size, relative=relative,
            strength=strength, smoothing=smoothing, blink=blink, gaze=gaze, progress=progress, seed=seed,
        )  # fmt: skip
    puppet = replace(puppet, audio=stream.audio if sound else b"")
    if output.suffix.lower() == ".mien":
        puppet.save(output)
        print(f"{output}: {summary(puppet)}")
        return
    left: Iterable[Any] | None = None
    if compare:
        mover = person_folder(person, driver)
        left = input_panels(clip, stream) if clip else make_frames(stream, pack=name, person=mover, device=where)
    owner = seen if isinstance(seen, Person) else person_folder(person, portrait)
    write_frames(puppet, output, make_frames(puppet, pack=name, person=owner, device=where), left, ("driver", "puppet"),
                 driver=stream, signer=signer)  # fmt: skip
