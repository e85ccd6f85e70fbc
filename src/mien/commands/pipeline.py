"""`mien encode`, `render`, `puppeteer` and `align`: clips into streams and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.commands.common import (
    Aligned,
    C2paCert,
    C2paKey,
    Channels,
    Device,
    Duration,
    Effort,
    Face,
    Inversion,
    Optimizer,
    Output,
    PackName,
    PersonFile,
    PersonSize,
    Report,
    Seed,
    Sound,
    Start,
    Tune,
    checked_device,
    pack_of,
    person_bytes,
    person_folder,
    progress_bars,
    summary,
    write_frames,
)
from mien.commands.transcode import coded
from mien.errors import InputError, Interrupted

if TYPE_CHECKING:
    from mien.person import Person
    from mien.provenance import Signer
    from mien.stream import Stream
    from mien.video import Clip
    from mien.workfolder import WorkFolder


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
    optimizer: Optimizer = "gauss-newton",
    channels: Channels = "pack",
    inversion: Inversion = "encoder",
    effort: Effort = 1.0,
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
    from mien.files import check_output, write_text
    from mien.video import VIDEO_SUFFIXES

    check_output(output, (".mien",))
    if report is not None:
        check_output(report)
    if inversions is not None:
        check_output(inversions, VIDEO_SUFFIXES)
    size, known = _who(person_size, person, tune)
    who = known.fingerprint if known else size
    with _resumable(
        clip, output, pack, device, aligned, tune, start, duration, seed, face, optimizer, channels, inversion, effort,
        who,
    ) as work:  # fmt: skip
        stream, facts = _encode(
            clip, pack, aligned, tune, start, duration, device, seed, face, sound, optimizer, channels, work,
            inversions, size, known, inversion, effort,
        )  # fmt: skip
        if rate is not None:
            stream = coded(stream, None, rate, None, pack, device, known)
            facts["bytes"].update(stream.accounting())
        facts["rate"] = stream.rates()
        work.publish(output, stream.to_bytes())
        if report is not None:
            write_text(report, json.dumps(facts, indent=2) + "\n")
    psnr = facts.get("psnr", {}).get("resynthesis")
    quality = f"; {psnr:.1f} dB against the crops" if psnr is not None else ""
    print(f"{output}: {summary(stream)}{quality}")


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
    person_size: Annotated[
        str | None, typer.Option("--size", metavar="SIZE", help="Most bytes of the tuned weights: 200k, ... or full.")
    ] = None,
    report: Report = None,
) -> None:
    """Tune the generator to a person once, for many streams.

    `mien encode --person NAME.person` then makes streams that name the person by hash instead of carrying the weights;
    `mien puppeteer` takes the file as the face.

    Example: mien person ann.mp4 -o ann.person --size 200k
    """
    from mien import limits
    from mien.files import check_output, write_text
    from mien.person import SUFFIX, Person
    from mien.stream import Stream

    check_output(output, (SUFFIX,))
    limits.person_name(output.stem, True, str(output))
    if report is not None:
        check_output(report)
    size = person_bytes(person_size)
    facts: dict[str, Any] = {}
    if clip.suffix.lower() == ".mien":
        stream = Stream.load(clip)
    else:
        with _resumable(
            clip, output, pack, device, aligned, True, start, duration, seed, face, "person", effort, size
        ) as work:
            stream, facts = _encode(
                clip, pack, aligned, True, start, duration, device, seed, face, False, work=work, person_size=size,
                effort=effort,
            )  # fmt: skip
    made = Person.of(stream, output.stem)
    made.save(output)
    sizes = made.accounting()
    if report is not None:
        write_text(report, json.dumps(facts | {"person": made.facts()}, indent=2) + "\n")
    parts = f"tuning {sizes['tuning']:,} bytes, identity {sizes['identity']:,} bytes, {sizes['total']:,} bytes in all"
    print(f"{output}: {parts}; person {made.fingerprint[:8]}")


def render(
    file: Annotated[Path, typer.Argument(metavar="FILE.mien", help="What `mien encode` wrote.")],
    output: Output,
    compare: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="Show the clip that was encoded on the left.")
    ] = None,
    paste_into: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="Put the face back into the frames of that clip.")
    ] = None,
    start: Annotated[
        float, typer.Option(min=0.0, metavar="S", help="Where in CLIP the encoded part begins, in seconds.")
    ] = 0.0,
    pack: Annotated[
        str | None, typer.Option("--pack", metavar="PACK", help="The pack that encoded the file; found by its name.")
    ] = None,
    person: PersonFile = None,
    device: Device = "auto",
    c2pa_cert: C2paCert = None,
    c2pa_key: C2paKey = None,
) -> None:
    """Render a .mien file as a video, with its frame rate and its sound.

    .mp4 is H.264, .mkv lossless. With --compare, input and render stand side by side.

    Example: mien render clip.mien -o side.mp4 --compare clip.mp4
    """
    from mien.files import check_output
    from mien.provenance import load_signer
    from mien.stream import Stream
    from mien.video import VIDEO_SUFFIXES, read_video

    check_output(output, VIDEO_SUFFIXES)
    signer = load_signer(c2pa_cert, c2pa_key, output)
    if compare is not None and paste_into is not None:
        raise InputError("--compare and --paste-into cannot be had together.")
    stream = Stream.load(file)
    beside = compare or paste_into
    clip = read_video(beside, start, stream.seconds) if beside else None
    owner = person_folder(person, file)
    _render(stream, output, pack, owner, checked_device(device), clip, paste=paste_into is not None, signer=signer)


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
    from mien.files import check_output
    from mien.person import Person
    from mien.provenance import load_signer
    from mien.stream import Stream
    from mien.video import VIDEO_SUFFIXES, read_image, read_video

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
        stream, _ = _encode(driver, pack or "mini", False, tune, start, duration, device, seed, face, sound)
    from mien.render import puppeteer as make_puppet
    from mien.render import render as make_frames

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
        left = _input_panels(clip, stream) if clip else make_frames(stream, pack=name, person=mover, device=where)
    owner = seen if isinstance(seen, Person) else person_folder(person, portrait)
    write_frames(puppet, output, make_frames(puppet, pack=name, person=owner, device=where), left, ("driver", "puppet"),
                 driver=stream, signer=signer)  # fmt: skip


def align(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video of a talking head.")],
    output: Output,
    size: Annotated[int, typer.Option(min=16, max=2048, help="Side of the crops in pixels.")] = 256,
    start: Start = 0.0,
    duration: Duration = None,
    face: Face = None,
    report: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="Write angles, corners and residuals there.")
    ] = None,
) -> None:
    """Write the stabilised crops I_t that the other stages work on (stage 1 alone).

    .mp4 is H.264, .mkv lossless. `mien plot` draws what --json wrote.

    Example: mien align clip.mp4 -o crops.mkv --json crops.json
    """
    from mien.files import check_output, write_text
    from mien.stages.align import align as run
    from mien.video import VIDEO_SUFFIXES, read_video, write_video

    check_output(output, VIDEO_SUFFIXES)
    if report is not None:
        check_output(report, (".json",))
    source = read_video(clip, start, duration)
    with progress_bars() as progress, progress.stage("align", source.frame_count) as tick:
        found = run(source, float(source.fps), size=size, face=face, tick=tick)
    span = (start, duration) if source.cut else (0.0, None)
    count = write_video(output, found.crops, source.fps, clip, *span)
    if report is not None:
        from mien.plots import alignment_facts

        write_text(report, json.dumps(alignment_facts(found, source.fps)) + "\n")
    unseen = int(found.bridged.sum()), int(found.lost.sum())
    print(f"{output}: {count} crops of {size}x{size}; face out of sight in {sum(unseen)} ({unseen[0]} bridged)")


def _encode(
    clip: Path,
    pack: str,
    aligned: bool,
    tune: bool,
    start: float,
    duration: float | None,
    device: str,
    seed: int,
    face: int | None,
    sound: bool,
    optimizer: str = "gauss-newton",
    channels: str = "pack",
    work: WorkFolder | None = None,
    inversions: Path | None = None,
    person_size: int | None = None,
    person: Person | None = None,
    inversion: str = "encoder",
    effort: float = 1.0,
) -> tuple[Stream, dict[str, Any]]:
    """Encode with progress bars; returns the stream with its sound, and the report."""
    from mien.video import probe

    where = checked_device(device)
    probe(clip)  # a bad file is said before the networks are loaded
    from mien.encode import encode_with_report

    with progress_bars() as progress:
        stream, report = encode_with_report(
            clip,
            pack=pack,
            aligned=aligned,
            tune=tune,
            start=start,
            duration=duration,
            device=where,
            seed=seed,
            face=face,
            sound=sound,
            optimizer=optimizer,
            channels=channels,
            inversions=inversions,
            person_size=person_size,
            person=person,
            inversion=inversion,
            effort=effort,
            progress=progress,
            work=work,
        )
    return stream, report.to_json()


def _who(size: str | None, person: Path | None, tune: bool) -> tuple[int | None, Person | None]:
    """The most bytes of the tuned weights, and the person that is given. Raises InputError, StreamError."""
    from mien.person import Person

    if size is not None and (person is not None or not tune):
        raise InputError("--person-size goes with neither --person nor --no-tune.")
    return person_bytes(size), Person.load(person) if person is not None else None


@contextmanager
def _resumable(clip: Path, output: Path, pack: str, device: str, *options: Any) -> Iterator[WorkFolder]:
    """The work folder of this very encode; Ctrl-C says that it is kept."""
    from mien.video import probe

    where = checked_device(device)
    probe(clip)  # a bad file is said before the networks are loaded
    from mien.runtime.device import resolve_device
    from mien.workfolder import encode_key, interval, work_folder

    key = encode_key(clip, pack_of(pack).fingerprint, str(resolve_device(where)), options)
    with work_folder(output, key, interval()) as work:
        try:
            yield work
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; what was finished is kept in {work.folder}, and the same command goes on from there."
            ) from None


def _render(stream: Stream, output: Path, pack: str | None, person: Path, device: str, clip: Clip | None, *,
            paste: bool, signer: Signer | None) -> None:  # fmt: skip
    from mien.render import render as make_frames

    frames = make_frames(stream, pack=pack, person=person, device=device)
    if clip is None:
        write_frames(stream, output, frames, signer=signer)
    elif paste:
        from mien.placement import paste as put_back

        write_frames(stream, output, put_back(frames, clip, stream, clip.size), audio=clip, signer=signer)
    else:
        panels = _input_panels(clip, stream)
        write_frames(stream, output, frames, panels, ("input", "mien"), audio=clip, signer=signer)


def _input_panels(clip: Clip, stream: Stream) -> Iterable[Any]:
    """The input as it is compared: the crops where the stream says where they were, else the whole frames."""
    from mien.placement import crops

    if stream.placement is None:
        return clip
    return crops(clip, stream, max(stream.resolution, 384), clip.size)
