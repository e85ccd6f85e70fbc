"""`mien person`: tune the generator to a person once, for many streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mien.apps.cli.common import (
    Aligned,
    Device,
    Duration,
    Effort,
    Face,
    Minutes,
    Output,
    PackName,
    Report,
    Seed,
    Start,
    pack_file,
    person_bytes,
)
from mien.apps.cli.encoding import encode_with_bars, resumable
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.format.stream import Stream


MostBytes = Annotated[
    str | None,
    typer.Option(
        "--size",
        "--person-size",
        metavar="SIZE",
        help="Most bytes of the tuned weights: 50k, 200k, ... or full.",
        show_default="188k, 400k above 256 pixels",
    ),
]
Resolution = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Side of the pictures that the person is learned in, 256, 512 or 1024, and that streams with it have.",
        show_default="the pack's own",
    ),
]


def person(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video of one person, or a tuned .mien of them.")],
    output: Output,
    pack: PackName = "mini",
    aligned: Aligned = False,
    start: Start = 0.0,
    duration: Duration = None,
    device: Device = "auto",
    seed: Seed = 0,
    face: Face = None,
    effort: Effort = 1.0,
    minutes: Minutes = None,
    person_size: MostBytes = None,
    resolution: Resolution = None,
    report: Report = None,
) -> None:
    """Tune the generator to a person once, for many streams.

    `mien encode --person NAME.person` then makes streams that name the person by hash instead of carrying the weights;
    `mien puppeteer` takes the file as the face.

    Example: mien person ann.mp4 -o ann.person --size 200k
    """
    from mien.format import limits
    from mien.format.person import SUFFIX, Person
    from mien.runtime.files import check_output, check_outputs_differ, write_text

    read = (clip, pack_file(pack))
    check_output(output, (SUFFIX,), read)
    limits.person_name(output.stem, True, str(output))
    if report is not None:
        check_output(report, (), read)
        check_outputs_differ(output, report)
    size = person_bytes(person_size)
    facts: dict[str, Any] = {}
    if clip.suffix.lower() == ".mien":
        of_videos = (
            aligned,
            start > 0,
            duration,
            face,
            effort != 1.0,
            minutes,
            pack != "mini",
            device != "auto",
            seed != 0,
        )
        if any(option not in (None, False) for option in of_videos):
            raise InputError(
                f"{clip} is encoded already: --size and --json alone go with it, the others are for a video."
            )
        stream = _encoded(clip, resolution, size)
    else:
        from mien.options import EncodeOptions

        options = EncodeOptions.of(
            aligned=aligned, person_size=size, effort=effort, start=start, duration=duration, seed=seed, face=face,
            sound=False, size=resolution, minutes=minutes,
        )  # fmt: skip
        with resumable(clip, output, pack, device, options, "person") as work:
            stream, facts = encode_with_bars(clip, pack, options, device, cache=work)
    made = Person.of(stream, output.stem)
    made.save(output)
    sizes = made.accounting()
    if report is not None:
        write_text(report, json.dumps(facts | {"person": made.facts()}, indent=2) + "\n")
    parts = f"tuning {sizes['tuning']:,} bytes, identity {sizes['identity']:,} bytes, {sizes['total']:,} bytes in all"
    print(f"{output}: {parts}; person {made.fingerprint[:8]}")


def _encoded(path: Path, resolution: int | None, size: int | Literal["full"] | None) -> Stream:
    """The stream of a `.mien`. Raises InputError where it was tuned at another resolution, or is larger than `size`."""
    from mien.format.stream import Stream

    stream = Stream.load(path)
    if resolution not in (None, stream.resolution):
        raise InputError(
            f"{path} was tuned in pictures of {stream.resolution} pixels: give the clip itself, or leave out --resolution."
        )
    if isinstance(size, int) and len(stream.tuning) > size:
        raise InputError(f"{path} carries {len(stream.tuning):,} bytes of weights, and they cannot be made smaller after "
                         "tuning: give the clip itself, or leave out --size.")  # fmt: skip
    return stream
