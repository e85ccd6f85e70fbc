"""What the commands share: their options, progress bars, and the way in which a video is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mien.errors import InputError

if TYPE_CHECKING:
    from mien.apps.provenance import Signer
    from mien.format.stream import Stream
    from mien.media.video import Clip
    from mien.packs.pack import Pack

Start = Annotated[float, typer.Option(min=0.0, metavar="S", help="Seconds of the clip to leave out at the front.")]
Duration = Annotated[float | None, typer.Option(min=0.0, metavar="S", help="Seconds to take; to the end if not given.")]
PackName = Annotated[str, typer.Option("--pack", metavar="PACK", help="A pack's name, or the path of a pack file.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")]
Seed = Annotated[int, typer.Option(min=0, help="For all that is drawn at random: the same seed, the same bytes.")]
Face = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Which face, counted from the left; the largest if not given.")
]
Sound = Annotated[
    bool, typer.Option("--sound/--no-sound", help="Carry the clip's sound in the file (a part of its own).")
]
Aligned = Annotated[
    bool, typer.Option("--aligned", help="The frames are face crops already (FFHQ framing): leave out stage 1.")
]
Tune = Annotated[bool, typer.Option("--tune/--no-tune", help="Tune the generator to this person (slower, more alike).")]
PersonSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Most bytes of the tuned weights: 50k, 200k, 1000k, ... or full.",
        show_default="188k, 400k above 256 pixels; full with --method paper",
    ),
]
PersonFile = Annotated[
    Path | None,
    typer.Option("--person", metavar="NAME.person", help="The person that the stream names: its file, or a folder."),
]
Inversion = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="encoder, or restyle: several looks at each frame by the pack's ReStyle network."
    ),
]
Effort = Annotated[
    float,
    typer.Option(
        min=0.1, max=10.0, metavar="N", help="So many times the steps of tuning: 2 is sharper, half is quicker."
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(min=0.01, metavar="M", help="Take so long at most: steps are planned from the speed of this machine."),
]
Optimizer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Stages 4 and 5: gauss-newton, or reference, plain gradient descent and no re-fit (slow)."
    ),
]
Method = Annotated[
    str, typer.Option(metavar="NAME", help="mien, or paper: the paper's method and nothing after it (slow).")
]
Size = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Side of the picture: 256, 512 or 1024, where the pack draws it.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The file to write.")]
Report = Annotated[
    Path | None, typer.Option("--json", metavar="REPORT.json", help="Write times, sizes and PSNR there.")
]
StreamFile = Annotated[Path, typer.Argument(metavar="FILE.mien", help="What `mien encode` wrote.")]
StreamPack = Annotated[
    str | None, typer.Option("--pack", metavar="PACK", help="The pack that encoded the file; found by its name.")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster: host:port, auto, or local to start one here."),
]
C2paCert = Annotated[
    Path | None,
    typer.Option("--c2pa-cert", envvar="MIEN_C2PA_CERT", metavar="CERT.pem",
                 help="Sign OUT's content credentials with this certificate (extra `provenance`)."),
]  # fmt: skip
C2paKey = Annotated[
    Path | None,
    typer.Option("--c2pa-key", envvar="MIEN_C2PA_KEY", metavar="KEY.pem", help="The certificate's private key."),
]

Calibrate = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=30.0,
        metavar="S",
        help="Seconds in which your face at rest is learned; 0: it is your own face that is shown.",
        show_default="0 where you look like the face that is shown, else 3",
    ),
]
Sign = Annotated[
    bool, typer.Option("--sign/--no-sign", help="The words `synthetic (mien)` in a corner of the picture.")
]
Mark = Annotated[
    bool,
    typer.Option(
        "--watermark/--no-watermark",
        help="The invisible mark that `mien verify` finds. The law may ask for it: docs/responsible-use.md.",
    ),
]


@contextmanager
def progress_bars() -> Iterator[Any]:
    """Show bars on stderr, as a `mien.runtime.progress.Progress`."""
    from mien.runtime.progress import RichProgress

    yield RichProgress()


def checked_device(name: str) -> str:
    """Return the name itself if there is such a device; raises InputError."""
    if name in ("auto", "cpu"):
        return name
    import torch

    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}: take auto, cpu or cuda.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no CUDA device: take --device cpu or auto.")
    return name


def say_notes(clip: Clip) -> None:
    """Say on stderr what of a clip's file is not taken as it is."""
    for note in clip.notes:
        print(f"mien: note: {note}", file=sys.stderr)


def person_bytes(size: str | None) -> int | Literal["full"] | None:
    """What `--person-size` says, in bytes, or `full` for all weights; None where nothing is said. Raises InputError."""
    if size is None:
        return None
    text = size.strip().lower()
    if text == "full":
        return "full"
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("k", "m") else (text, "")
    least, most = 10_000, 64_000_000
    if number.isascii() and number.isdigit():
        count = int(number[:12]) * {"": 1, "k": 1000, "m": 1_000_000}[unit]
        if least <= count <= most:
            return count
    raise InputError(f"the size of a person is a number of bytes of 10k to 64M, as 200k, or full; not {size!r}.")


def person_folder(given: Path | None, stream: Path) -> Path:
    """Say where the person that a stream names is looked for: as given, else beside the stream."""
    return given if given is not None else stream.parent


def pack_of(name: str) -> Pack:
    """Load the pack of that name or path; raises PackError."""
    from mien.packs.pack import Pack

    return Pack.load(name)


def pack_file(name: str | None) -> Path | None:
    """The file that a pack of that name or path is read from, None where none is named: no output may be that."""
    from mien.packs.pack import locate

    return None if name is None else locate(name)


def write_frames(
    stream: Stream,
    output: Path,
    frames: Iterable[Any],
    left: Iterable[Any] | None = None,
    captions: tuple[str, str] = ("", ""),
    audio: Clip | None = None,
    driver: Stream | None = None,
    signer: Signer | None = None,
    watermark: bool = True,
    recorded: bool = False,
) -> None:
    """Write what is rendered, beside `left` if that is given, with the stream's sound (or that of the clip `audio`).

    `recorded`: a recording is seen, in `left` or around the face. The metadata say that it is synthetic and from which
    stream (and `driver`); `watermark` marks the picture, `signer` signs the file."""
    from mien.apps.live import FRAMES_AHEAD, prefetch
    from mien.apps.provenance import Origin, file_hash, signed_output
    from mien.media.video import write_video
    from mien.media.watermark import marked

    origin = Origin(stream, driver, composed=recorded)
    source: Any = stream.audio or None
    span: tuple[float, float | None] = (0.0, None)
    if source is None and audio is not None and audio.has_audio:
        source, span = audio.path, ((audio.start, audio.duration) if audio.cut else span)
    with progress_bars() as progress, progress.stage("render", len(stream)) as tick:
        # Frames are rendered in a thread of their own while others are coded.
        shown = _ticked(prefetch(frames, FRAMES_AHEAD), tick)
        if left is not None:
            from mien.media.side_by_side import side_by_side

            shown = side_by_side([left, shown], captions)
        if watermark:
            shown = marked(shown, file_hash(stream))
        with signed_output(output, signer, origin) as target:
            count = write_video(
                target, shown, stream.fps, source, *span, metadata={"comment": origin.sentence()}
            )  # fmt: skip
    print(
        f"{output}: {count} frames at {stream.fps} a second"
        + (", with sound" if source else "")
        + (", signed" if signer else "")
    )


def _ticked(frames: Iterable[Any], tick: Any) -> Iterator[Any]:
    for frame in frames:
        yield frame
        tick(1)


def summary(stream: Stream) -> str:
    """Say in one line how many frames a stream has, and what they cost."""
    sizes, rates = stream.accounting(), {name: rate / 1000 for name, rate in stream.rates().items()}
    tuned = f", {rates['with_tuning']:,.1f} with tuning" if stream.tuning else ""
    tuned = f", person '{stream.person_name}'" if stream.person else tuned
    return (
        f"{len(stream)} frames of {sizes['per_frame']} bytes ({rates['frames']:.1f} kbit/s at {stream.fps} a second, "
        f"{rates['with_identity']:.1f} with identity{tuned}), {sizes['total']:,} bytes in all"
    )


def input_panels(clip: Clip, stream: Stream) -> Iterable[Any]:
    """Cut the input as it is compared: the crops where the stream says where they were, else the whole frames."""
    from mien.method.stage6_render.placement import crops

    if stream.placement is None:
        return clip
    return crops(clip, stream, max(stream.resolution, 384), clip.size)
