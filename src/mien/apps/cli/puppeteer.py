"""`mien puppeteer`: a face does what a driver does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.apps.cli.common import (
    C2paCert,
    C2paKey,
    Device,
    Duration,
    Mark,
    Output,
    PersonFile,
    Seed,
    Sound,
    Start,
    checked_device,
    input_panels,
    person_bytes,
    person_folder,
    progress_bars,
    summary,
    write_frames,
)
from mien.apps.cli.encoding import encode_with_bars
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.format.stream import Stream
    from mien.media.video import Clip
    from mien.options import EncodeOptions
    from mien.reenact.face_source import FaceSource
    from mien.reenact.options import PuppetOptions

# Options that say nothing by default: the method's preset holds then.
Method = Annotated[
    str,
    typer.Option(metavar="NAME", help="mien, or paper: the driver's 35 numbers a frame unchanged, with FACE's L_ID."),
]
TuneFace = Annotated[
    bool | None,
    typer.Option(
        "--tune/--no-tune",
        help="Tune the generator to FACE, or take an image by its inversion alone and a .mien or .person as it is.",
        show_default="tune",
    ),
]
Views = Annotated[
    bool | None,
    typer.Option("--views/--no-views", help="Tune to FACE warped to where the driver takes it, or to FACE alone.",
                 show_default="views, with --method mien"),
]  # fmt: skip
DriverPack = Annotated[
    str | None, typer.Option("--pack", metavar="PACK", help="A pack's name or path; a .mien driver names its own.")
]
FaceSize = Annotated[
    str | None,
    typer.Option("--person-size", metavar="SIZE", help="Most bytes of FACE's tuned weights: 50k, 200k, ... or full.",
                 show_default="full"),
]  # fmt: skip
Pivot = Annotated[
    bool | None,
    typer.Option("--pivot/--no-pivot", help="Optimise the latent of an image before all else, or take the encoder's.",
                 show_default="pivot, with --method mien"),
]  # fmt: skip
EyeTransfer = Annotated[
    bool | None,
    typer.Option("--eye-transfer/--no-eye-transfer", help="FACE's own eyes in those views, or the generator's.",
                 show_default="eye-transfer, with --method mien"),
]  # fmt: skip
Strength = Annotated[
    float | None,
    typer.Option(min=0.0, max=3.0, help="Scale all motion about the driver's usual pose and expression.",
                 show_default="1.0"),
]  # fmt: skip
Smoothing = Annotated[
    float | None,
    typer.Option(min=0.0, max=10.0, metavar="S", help="Smooth the motion over so many seconds.", show_default="0.0"),
]
Blink = Annotated[
    bool | None,
    typer.Option("--blink/--no-blink", help="The driver's lids, or FACE's own.", show_default="blink"),
]
Gaze = Annotated[
    bool | None, typer.Option("--gaze/--no-gaze", help="The driver's gaze, or FACE's own.", show_default="gaze")
]
Relative = Annotated[
    bool | None,
    typer.Option(
        "--relative/--absolute",
        help="Take changes from the driver's rest, or the driver's own pose and channel values.",
        show_default="as the pack's channels ask",
    ),
]


FaceNumber = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Which face of FACE, an image, from the left; the largest if not given."),
]
DriverSize = Annotated[
    int | None,
    typer.Option("--size", metavar="PIXELS", show_default="the pack's own",
                 help="Side of the pictures that DRIVER, a video, and an image as FACE are learned in: 256, 512 or 1024."),
]  # fmt: skip
DriverFace = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Which face of DRIVER, a video; the largest if not given.")
]


def puppeteer(
    driver: Annotated[Path, typer.Argument(metavar="DRIVER", help="Who moves: a .mien file or a video.")],
    portrait: Annotated[Path, typer.Argument(metavar="FACE", help="Who is seen: an image, .mien or .person.")],
    output: Output,
    method: Method = "mien",
    compare: Annotated[bool, typer.Option("--compare", help="Show the driver on the left.")] = False,
    strength: Strength = None,
    smoothing: Smoothing = None,
    blink: Blink = None,
    gaze: Gaze = None,
    relative: Relative = None,
    tune: TuneFace = None,
    views: Views = None,
    eye_transfer: EyeTransfer = None,
    pivot: Pivot = None,
    pack: DriverPack = None,
    person_size: FaceSize = None,
    person: PersonFile = None,
    start: Start = 0.0,
    duration: Duration = None,
    size: DriverSize = None,
    device: Device = "auto",
    seed: Seed = 0,
    face: FaceNumber = None,
    driver_face: DriverFace = None,
    sound: Sound = True,
    watermark: Mark = True,
    c2pa_cert: C2paCert = None,
    c2pa_key: C2paKey = None,
) -> None:
    """Let FACE do what DRIVER does.

    With --method mien (the default) the driver's motion is put into FACE's own units, and the generator is tuned, for
    this driver, to FACE and to what it looks like where the driver takes it. With --method paper the identity latent
    and weights are exchanged and nothing else; to an image the generator is tuned around its fixed inversion. A video
    as DRIVER is encoded first, untuned with --no-tune. OUT may be a .mien too, which names a .person.

    Example: mien puppeteer clip.mien portrait.png -o puppet.mp4 --compare
    """
    from mien.apps.provenance import load_signer
    from mien.format.person import Person
    from mien.options import EncodeOptions

    as_stream = _is_stream(output, (driver, portrait), compare or not watermark, (c2pa_cert, c2pa_key))
    _check_pairs(driver, start > 0 or (duration, size) != (None, None), person_size is not None and tune is False)
    signer = None if as_stream else load_signer(c2pa_cert, c2pa_key, output)
    where, most_bytes = checked_device(device), person_bytes(person_size)
    clip, stream = _driver(driver, start, duration, person, compare)
    seen, face, driver_face = _faces(portrait, face, driver_face, clip is not None)
    options = _options(
        method,
        {"strength": strength, "smoothing_seconds": smoothing, "blink": blink, "gaze": gaze, "relative": relative},
        {"views": views, "eye_transfer": eye_transfer, "pivot": pivot, "tuning": tune},
        {"seed": seed} | ({} if most_bytes is None else {"person_size": None if most_bytes == "full" else most_bytes}),
    )
    if isinstance(seen, Person) and as_stream:
        options = replace(options, tuning=None)
    if stream is None:
        of_driver = EncodeOptions.of(
            method, tune=tune is not False, start=start, duration=duration, size=size, seed=seed, face=driver_face,
            sound=sound,
        )  # fmt: skip
        stream = _encode_driver(driver, of_driver, seen, pack, device)
    with _kept(stream if clip else None, output):
        from mien.reenact.puppeteer import puppeteer as reenact

        with progress_bars() as progress:
            puppet = reenact(
                stream, seen, options=options, pack=pack, person=person_folder(person, driver), device=where,
                progress=progress, face_number=face,
            )  # fmt: skip
        puppet = replace(puppet, audio=stream.audio if sound else b"")
        if as_stream:
            return _save(puppet, output)
        left = _driver_panels(clip, stream, pack, person_folder(person, driver), where) if compare else None
        owner = seen if isinstance(seen, Person) else person_folder(person, portrait)
        _write(
            puppet, output, left, owner, pack, where, driver=stream, signer=signer, watermark=watermark,
            recorded=compare and clip is not None,
        )  # fmt: skip


def _driver(
    path: Path, start: float, duration: float | None, person: Path | None, drawn: bool
) -> tuple[Clip | None, Stream | None]:
    """The driver's clip, or its stream; where that is to be `drawn`, the person that it names must be there."""
    from mien.format.person import find_person
    from mien.format.stream import Stream
    from mien.media.video import read_video

    if path.suffix.lower() != ".mien":
        return read_video(path, start, duration), None
    stream = Stream.load(path)
    if drawn:
        find_person(stream, person_folder(person, path))
    return None, stream


def _is_stream(
    output: Path, inputs: tuple[Path, Path], of_videos: bool, signing: tuple[Path | None, Path | None]
) -> bool:
    """Whether the result is to be a stream and no video. Raises OutputError where it cannot be written, InputError where
    options are given that are `of_videos`, as files for `signing` are, unless the environment names them."""
    from mien.apps.provenance import named_by_environment
    from mien.media.video import VIDEO_SUFFIXES
    from mien.runtime.files import check_output

    check_output(output, (*VIDEO_SUFFIXES, ".mien"), inputs)
    as_stream = output.suffix.lower() == ".mien"
    signed = any(path is not None for path in signing) and not named_by_environment(*signing)
    if as_stream and (of_videos or signed):
        raise InputError("--compare, --no-watermark, --c2pa-cert and --c2pa-key are for a video as OUT.")
    return as_stream


def _check_pairs(driver: Path, of_clips: bool, of_tuning: bool) -> None:
    """Options that would have no effect. Raises InputError."""
    if driver.suffix.lower() == ".mien" and of_clips:
        raise InputError("--start, --duration and --size are for a video as DRIVER: mien edit cuts a .mien.")
    if of_tuning:
        raise InputError("--person-size does not go with --no-tune.")


def _encode_driver(driver: Path, options: EncodeOptions, face: FaceSource, pack: str | None, device: str) -> Stream:
    """The driver's stream, by the pack of the face. What does not go with that pack is said before any work."""
    import numpy as np

    from mien.packs.pack import Pack
    from mien.reenact.face_source import load_face

    if pack is None and not isinstance(face, np.ndarray):
        load_face(face, Pack.named(face.pack_name))
        return encode_with_bars(driver, face.pack_name, options, device)[0]
    load_face(face, Pack.load(pack or "mini"))
    return encode_with_bars(driver, pack or "mini", options, device)[0]


def _faces(
    path: Path, face: int | None, driver_face: int | None, filmed: bool
) -> tuple[FaceSource, int | None, int | None]:
    """FACE, and which face of it and of the driver: a stream or a person is one face, so that the number is the
    driver's, which is `filmed` or a stream.

    Raises FaceError for an image without that face, before the driver is encoded; InputError for a number without
    meaning.
    """
    import numpy as np

    from mien.method.stage1_align.align import align_image
    from mien.reenact.face_source import read_face

    seen = read_face(path)
    still = isinstance(seen, np.ndarray)
    if not filmed and (driver_face is not None or (face is not None and not still)):
        raise InputError("--driver-face is for a video as DRIVER, and --face for an image as FACE.")
    if not isinstance(seen, np.ndarray):
        return seen, None, driver_face or face
    align_image(seen, 256, face)
    return seen, face, driver_face


def _save(puppet: Stream, output: Path) -> None:
    puppet.save(output)
    print(f"{output}: {summary(puppet)}")


def _write(puppet: Stream, output: Path, left: Any, owner: Any, pack: str | None, device: str, **facts: Any) -> None:
    """Render the puppet into a video; `left`: frames beside it, or None; `facts`: those of `write_frames`."""
    from mien.method.stage6_render.render import render

    frames = render(puppet, pack=pack, person=owner, device=device)
    write_frames(puppet, output, frames, left, ("driver", "puppet"), **facts)


@contextmanager
def _kept(encoded: Stream | None, output: Path) -> Iterator[None]:
    """Keep a driver that was encoded on the way, beside the output, where the work after it fails or is stopped."""
    try:
        yield
    except BaseException:
        kept = output.with_name("driver-of-" + output.stem[:100] + ".mien")
        if encoded is not None and not kept.exists():
            encoded.save(kept)
            print(f"mien: note: the encoded driver is kept in {kept}; give it as DRIVER to go on.", file=sys.stderr)
        raise


def _driver_panels(clip: Clip | None, stream: Stream, pack: str | None, person: Any, device: str) -> Iterable[Any]:
    """The driver as it is compared: its clip, or its stream's frames."""
    from mien.method.stage6_render.render import render

    return input_panels(clip, stream) if clip else render(stream, pack=pack, person=person, device=device)


def _options(
    method: str, retargeting: dict[str, Any], parts: dict[str, bool | None], tuning: dict[str, Any]
) -> PuppetOptions:
    """A method's preset with what was asked for: None leaves the preset's value, False switches a part off.

    Raises InputError for what the method does not have.
    """
    from mien.reenact.options import PuppetOptions

    options = PuppetOptions.of(method)
    asked = {name: value for name, value in retargeting.items() if value is not None}
    if asked and options.retargeting is None:
        raise InputError(
            f"--method {method} takes the driver's numbers as they are: how they change is --method mien's."
        )
    if options.retargeting is not None:
        options = replace(options, retargeting=replace(options.retargeting, **asked))
    for part, wanted in parts.items():
        if wanted and getattr(options, part) is None:
            raise InputError(f"--method {method} has no {part.replace('_', ' ')}: that is --method mien's.")
        if wanted is False:
            options = replace(options, **{part: None})
    if options.tuning is not None:
        options = replace(options, tuning=replace(options.tuning, **tuning))
    return options
