"""`mien render`: a stream to a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps.cli.common import (
    C2paCert,
    C2paKey,
    Device,
    Mark,
    Output,
    PersonFile,
    Size,
    StreamFile,
    StreamPack,
    checked_device,
    input_panels,
    person_folder,
    write_frames,
)
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.apps.provenance import Signer
    from mien.format.stream import Stream
    from mien.media.video import Clip


def render(
    file: StreamFile,
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
    pack: StreamPack = None,
    person: PersonFile = None,
    size: Size = None,
    device: Device = "auto",
    watermark: Mark = True,
    c2pa_cert: C2paCert = None,
    c2pa_key: C2paKey = None,
) -> None:
    """Render a .mien file as a video, with its frame rate and its sound.

    .mp4 is H.264, .mkv lossless. With --compare, input and render stand side by side.

    Example: mien render clip.mien -o back.mp4

    Example: mien render clip.mien -o side.mp4 --compare clip.mp4

    Example: mien render edited.mien -o whole.mp4 --paste-into clip.mp4
    """
    from mien.apps.provenance import load_signer
    from mien.format.stream import Stream
    from mien.media.video import VIDEO_SUFFIXES, read_video
    from mien.runtime.files import check_output

    check_output(output, VIDEO_SUFFIXES, (file, compare, paste_into))
    signer = load_signer(c2pa_cert, c2pa_key, output)
    if compare is not None and paste_into is not None:
        raise InputError("--compare and --paste-into cannot be had together.")
    beside = compare or paste_into
    if beside is None and start > 0:
        raise InputError("--start is for --compare and --paste-into.")
    stream = Stream.load(file)
    clip = read_video(beside, start, stream.seconds) if beside else None
    if clip is not None and clip.fps != stream.fps:
        raise InputError(
            f"{clip.path} has {float(clip.fps):g} frames a second and the stream {float(stream.fps):g}: they do not belong "
            "together."
        )
    owner = person_folder(person, file)
    where = checked_device(device)
    _render(stream, output, pack, owner, where, clip, paste=paste_into is not None, signer=signer, size=size,
            watermark=watermark)  # fmt: skip


def _render(stream: Stream, output: Path, pack: str | None, person: Path, device: str, clip: Clip | None, *,
            paste: bool, signer: Signer | None, size: int | None, watermark: bool) -> None:  # fmt: skip
    from mien.method.stage6_render.render import render as make_frames

    frames = make_frames(stream, pack=pack, person=person, device=device, size=size)
    if clip is None:
        write_frames(stream, output, frames, signer=signer, watermark=watermark)
    elif paste:
        from mien.method.stage6_render.placement import paste as put_back

        shown = put_back(frames, clip, stream, clip.size)
        write_frames(stream, output, shown, audio=clip, signer=signer, watermark=watermark, recorded=True)
    else:
        panels = input_panels(clip, stream if size is None else replace(stream, resolution=size))
        write_frames(
            stream, output, frames, panels, ("input", "mien"), audio=clip, signer=signer, watermark=watermark,
            recorded=True,
        )  # fmt: skip
