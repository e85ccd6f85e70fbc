"""`mien encode`: a clip to a stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    pack_file,
    person_bytes,
    summary,
)
from mien.apps.cli.encoding import encode_with_bars, resumable
from mien.apps.cli.transcode import apply_rate
from mien.errors import InputError, PersonChangeError

if TYPE_CHECKING:
    from mien.format.person import Person
    from mien.options import ClipOptions, EncodeOptions


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
    cuts: Annotated[
        str,
        typer.Option(metavar="NAME", help="A cut to another person: refuse, or split into OUT-1.mien, OUT-2.mien, ..."),
    ] = "refuse",
    inversions: Annotated[
        Path | None, typer.Option(metavar="S_T.mkv", help="Write the inversions S_t there, for `mien evaluate`.")
    ] = None,
) -> None:
    """Encode a clip into a .mien file: one identity latent, then 70 bytes a frame.

    The paper's first five stages: align the face, invert every frame, choose the identity, find yaw and pitch, find 32
    expression offsets; with the generator tuned to the person, and by default a refinement and a re-fit against the
    frames after them. `mien render` is the sixth. What is finished is kept in OUT.mien.work until all is: after Ctrl-C
    or a crash, the same command goes on from there and writes the same file.

    Example: mien encode clip.mp4 -o clip.mien --duration 5 --json report.json
    """
    from mien.media.video import VIDEO_SUFFIXES
    from mien.runtime.files import check_output, check_outputs_differ

    read = (clip, person, pack_file(pack))
    check_output(output, (".mien",), read)
    if report is not None:
        check_output(report, (), read)
    if inversions is not None:
        check_output(inversions, VIDEO_SUFFIXES, read)
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
    if cuts not in ("refuse", "split"):
        raise InputError(f"--cuts is refuse or split, not {cuts!r}.")
    if cuts == "split" and (report is not None or inversions is not None):
        raise InputError("--cuts split goes with neither --json nor --inversions.")
    work = partial(
        _encode, clip, pack=pack, device=device, known=known, rate=rate, report=report, inversions=inversions
    )
    try:
        work(output, options)
    except PersonChangeError as error:
        if cuts != "split":
            raise
        also = f"{rate} {known.fingerprint if known else ''}"
        _encode_parts(clip, output, pack, device, options, also, error.times, work)


@dataclass(frozen=True)
class _Part:
    """A part of a clip that is done: the SHA-256 of its file in hexadecimal."""

    digest: str


def _encode_parts(
    clip: Path, output: Path, pack: str, device: str, options: EncodeOptions, also: str, times: list[float],
    work: Callable[[Path, EncodeOptions], None],
) -> None:  # fmt: skip
    """Encode the parts of a clip between `times` (seconds after the start), each into a file of its own. After an
    interruption those that are there are not made again. `also`: what else the files depend on."""
    from mien.packs.convert.common import sha256
    from mien.runtime.files import check_output

    borders = [0.0, *times, options.clip.duration]
    outputs = [check_output(output.with_name(f"{output.stem}-{i}.mien"), (), (clip,)) for i in range(1, len(borders))]
    with resumable(
        clip, output.with_name(f"{output.stem}-parts.mien"), pack, device, options, f"parts {also}"
    ) as parts:
        for part, start, end in zip(outputs, borders, borders[1:], strict=False):
            assert start is not None
            span = replace(
                options.clip, start=options.clip.start + start, duration=None if end is None else end - start
            )

            def made(part: Path = part, span: ClipOptions = span) -> _Part:
                work(part, replace(options, clip=span))
                return _Part(sha256(part))

            done = parts.stage(part.stem, _Part, made)
            if not part.is_file() or done.digest != sha256(part):
                made()


def _encode(
    clip: Path, output: Path, options: EncodeOptions, *, pack: str, device: str, known: Person | None, rate: float | None,
    report: Path | None, inversions: Path | None,
) -> None:  # fmt: skip
    """Encode a clip into one file, and say what it cost."""
    from mien.runtime.files import write_text

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
    for place in facts["cuts"]:
        print(f"{output}: another shot begins at frame {place['frame']} ({place['seconds']} s)")
    if facts["frames_lost"]:
        print(f"{output}: no face in {_spans(facts['frames_lost'])}: what it did last is held there")


def _spans(frames: list[int]) -> str:
    """Frame numbers in ascending order as `frames 3-7, 12`."""
    spans: list[list[int]] = []
    for frame in frames:
        if spans and frame == spans[-1][1] + 1:
            spans[-1][1] = frame
        else:
            spans.append([frame, frame])
    return "frames " + ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in spans)
