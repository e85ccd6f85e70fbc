"""A clip's path in, a Stream and a report out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mien.errors import InputError
from mien.format.person import Person
from mien.format.stream import Stream
from mien.media.sound import extract_audio
from mien.media.video import Clip, read_video
from mien.method.solvers.registry import optimizer as optimizer_named
from mien.method.stage1_align import align as stage1
from mien.method.types import FaceTrack
from mien.packs.pack import Pack
from mien.pipeline import CHANNELS, EncodeReport, encode_crops, timed
from mien.runtime.device import resolve_device
from mien.runtime.progress import NoProgress, Progress
from mien.runtime.stage_cache import NullCache


def encode(clip: str | Path, **options: Any) -> Stream:
    """Encode a clip; the options are `encode_with_report`'s. Returns the stream."""
    return encode_with_report(clip, **options)[0]


def encode_with_report(
    clip: str | Path | Clip,
    *,
    pack: str | Pack = "mini",
    aligned: bool = False,
    tune: bool = True,
    person_size: int | None = None,
    person: Person | str | Path | None = None,
    inversion: str = "encoder",
    effort: float = 1.0,
    start: float = 0.0,
    duration: float | None = None,
    device: str = "auto",
    seed: int = 0,
    face: int | None = None,
    sound: bool = True,
    optimizer: str = "gauss-newton",
    channels: str = "pack",
    inversions: Path | None = None,
    real_targets: bool = False,
    progress: Progress | None = None,
    work: NullCache | None = None,
) -> tuple[Stream, EncodeReport]:
    """Encode a clip: `L_ID` and 35 numbers a frame, with a report.

    `aligned`: the frames are face crops in FFHQ framing already; stage 1 is skipped and the roll is 0. `tune`: tune
    the generator to the person first (and send the difference, in at most `person_size` bytes where that is given, else
    all weights). `person`: a person or its file instead: its weights stay as they are, only the encoder is tuned, and
    the stream names the person by hash. `inversion`: `encoder`, or `restyle` for several looks at each frame
    (`mien.method.stage2_invert.Feedback`). `effort`: so many times the usual steps of tuning, 0.1 to 10. `start`, `duration` in
    seconds. `face`: which face, from 1 at the left; the largest by default. `sound`: carry the clip's sound in the
    stream. `optimizer`: how stages 4 and 5 are solved, `gauss-newton` or the paper's plain form, `reference`. `channels`: `pack` takes the pack's V, `clip` chooses 32
    channels for this clip. `inversions`: a video to write S_t to, for `mien evaluate`. `real_targets`: stage 5 fits the
    real frames I_t in place of S_t (the paper's ablation, Sec. 4.2). The same seed gives the same stream on one machine.
    `work`: where finished stages are kept (`mien.runtime.stage_cache`), so that a run that was stopped is taken up again.

    Raises VideoError, FaceError, PackError or InputError, each with one sentence.
    """
    progress, work = progress or NoProgress(), work or NullCache()
    optimizer_named(optimizer)
    if channels not in CHANNELS:
        raise InputError(f"there are no channels {channels!r}: take {' or '.join(CHANNELS)}.")
    report = EncodeReport(resumed=work.resumed)
    if not 0.1 <= effort <= 10:
        raise InputError(f"effort goes from 0.1 to 10: {effort} is outside.")
    source = clip if isinstance(clip, Clip) else read_video(clip, start, duration)
    networks = (pack if isinstance(pack, Pack) else Pack.load(pack)).to(resolve_device(device))
    torch.manual_seed(seed)
    known = Person.load(person) if isinstance(person, (str, Path)) else person
    if known is not None:
        known.require_pack(networks.fingerprint, networks.name)
        if person_size is not None:
            raise InputError("a person that is given has its size already: take person or person_size.")

    with timed(report, "align"), progress.stage("align", source.frame_count) as tick:
        size = networks.resolution
        crops = work.stage("align", FaceTrack, lambda: stage1.already_aligned(source, size, tick=tick) if aligned
                           else stage1.align(source, float(source.fps), size=size, face=face, tick=tick))  # fmt: skip
    stream = encode_crops(crops, source.fps, networks, tune_clip=tune, person_size=person_size, person=known,
                          inversion=inversion, effort=effort, aligned=aligned, seed=seed, optimizer=optimizer,
                          channels=channels, inversions=inversions, real_targets=real_targets,
                          progress=progress, report=report, work=work)  # fmt: skip
    if sound and source.has_audio:
        stream = replace(stream, audio=extract_audio(source.path, source.start, source.duration))
        report.bytes = stream.accounting()
    return stream, report
