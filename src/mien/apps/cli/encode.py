"""`mien encode`: a clip to a stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.apps.cli.common import (
    Aligned,
    Device,
    Duration,
    Effort,
    Face,
    Inversion,
    Method,
    Minutes,
    Optimizer,
    Output,
    PackName,
    PersonSize,
    Report,
    Seed,
    Size,
    Sound,
    Start,
    Tune,
    person_bytes,
    summary,
)
from mien.apps.cli.encoding import encode_with_bars, resumable
from mien.apps.cli.transcode import apply_rate
from mien.errors import InputError


def encode(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video of a talking head.")],
    output: Output,
    pack: PackName = "mini",
    aligned: Aligned = False,
    tune: Tune = True,
    start: Start = 0.0,
    duration: Duration = None,
    device: Device = "auto",
    seed: Seed = 0,
    face: Face = None,
    sound: Sound = True,
    method: Method = "mien",
    size: Size = None,
    optimizer: Optimizer = None,
    inversion: Inversion = "encoder",
    effort: Effort = 1.0,
    minutes: Minutes = None,
    person_size: PersonSize = None,
    person: Annotated[
        Path | None,
        typer.Option("--person", metavar="NAME.person", help="Take this person's weights, and name them by hash."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1000.0, metavar="BITS", help="Code the frames, at most so many bits a second.")
    ] = None,
    report: Report = None,
    inversions: Annotated[
        Path | None, typer.Option(metavar="S_T.mkv", help="Write the inversions S_t there, for `mien evaluate`.")
    ] = None,
) -> None:
    """Encode a clip into a .mien file: one identity latent, then 70 bytes a frame.

    Six stages: align the face, invert every frame, choose the identity, find yaw and pitch, find 32 expression
    offsets, pack them. What is finished is kept in OUT.mien.work until all is: after Ctrl-C or a crash, the same
    command goes on from there and writes the same file.

    Example: mien encode clip.mp4 -o clip.mien --duration 5 --json report.json
    """
    from mien.media.video import VIDEO_SUFFIXES
    from mien.runtime.files import check_output, check_outputs_differ, write_text

    check_output(output, (".mien",), (clip,))
    if report is not None:
        check_output(report, (), (clip,))
    if inversions is not None:
        check_output(inversions, VIDEO_SUFFIXES, (clip,))
    check_outputs_differ(output, report, inversions)
    from mien.format.person import Person
    from mien.options import EncodeOptions

    if person_size is not None and (person is not None or not tune):
        raise InputError("--person-size goes with neither --person nor --no-tune.")
    known = Person.load(person) if person is not None else None
    options = EncodeOptions.of(
        method, aligned=aligned, tune=tune, person_size=person_bytes(person_size), inversion=inversion, effort=effort,
        start=start, duration=duration, seed=seed, face=face, sound=sound, optimizer=optimizer, size=size, minutes=minutes,
    )  # fmt: skip
    with resumable(clip, output, pack, device, options, known.fingerprint if known else "") as work:
        stream, facts = encode_with_bars(
            clip, pack, options, device, cache=work, inversions=inversions, person=known
        )  # fmt: skip
        if rate is not None:
            stream = apply_rate(stream, None, rate, None, pack, device, known)
            facts["bytes"].update(stream.accounting())
        facts["rate"] = stream.rates()
        work.publish(output, stream.to_bytes())
        if report is not None:
            write_text(report, json.dumps(facts, indent=2) + "\n")
    psnr = facts.get("psnr", {}).get("resynthesis")
    quality = f"; {psnr:.1f} dB against the crops" if psnr is not None else ""
    print(f"{output}: {summary(stream)}{quality}")
