"""A clip's path in, a Stream and a report out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien.errors import InputError, PersonChangeError
from mien.face.mesh import check_installed
from mien.format.person import Person
from mien.format.stream import Stream
from mien.media.sound import extract_audio
from mien.media.video import SYNTHETIC, Clip, read_video, write_video
from mien.method.completion import completed
from mien.method.shots import changes_of_person, hold_while_lost
from mien.method.stage1_align.align import AlignOptions, align, already_aligned
from mien.method.stage6_render.placement import placement_from_quads
from mien.method.types import FaceTrack
from mien.nets.stylespace import channel_table
from mien.options import LEAST_EFFORT, EncodeOptions
from mien.packs.imagenet import PACKAGES, TUNING_VARIANT, weights_file
from mien.packs.pack import Pack
from mien.personalize.sampling import batch_at
from mien.personalize.time_plan import gradient_seconds, plan_time
from mien.pipeline import Encoding, Networks, encode_track
from mien.report import EncodeReport, as_bytes, summarise
from mien.runtime.device import resolve_device
from mien.runtime.monitor import Monitor, StageMonitor
from mien.runtime.progress import NoProgress, Progress, say
from mien.runtime.stage_cache import NullCache


def encode(clip: str | Path, **options: Any) -> Stream:
    """Encode a clip; the options are `encode_with_report`'s. Returns the stream."""
    return encode_with_report(clip, **options)[0]


def encode_with_report(
    clip: str | Path | Clip,
    *,
    options: EncodeOptions | None = None,
    pack: str | Pack = "mini",
    person: Person | str | Path | None = None,
    device: str = "auto",
    inversions: Path | None = None,
    progress: Progress | None = None,
    cache: NullCache | None = None,
    **keywords: Any,
) -> tuple[Stream, EncodeReport]:
    """Encode a clip: `L_ID` and 35 numbers a frame, with a report.

    Args:
        options: all options at once; in place of them, `keywords` are those of `EncodeOptions.of`, such as `method`,
            `tune`, `start`, `duration`, `seed`.
        person: a person or its file: its weights stay as they are, only the encoder is tuned, pictures have its size, and
            the stream names the person by hash.
        device: `auto`, `cpu`, `cuda`.
        inversions: a video to write S_t to, for `mien evaluate`.
        cache: where finished stages are kept (`mien.runtime.stage_cache`), so that a run that was stopped is taken up
            again.

    Raises:
        PersonChangeError, VideoError, FaceError, PackError, InputError: each with one sentence.
    """
    if options is not None and keywords:
        raise TypeError(f"options are given already, so {', '.join(keywords)} cannot be")
    options = EncodeOptions.of(**keywords) if options is None else options
    source = clip if isinstance(clip, Clip) else read_video(clip, options.clip.start, options.clip.duration)
    known = Person.load(person) if isinstance(person, (str, Path)) else person
    found = (pack if isinstance(pack, Pack) else Pack.load(pack)).to(resolve_device(device))
    if known is not None:
        known.require_pack(found.fingerprint, found.name)
        known.require_size(options.size)
    networks = found.at(options.size if known is None else known.resolution)
    Networks.of(networks, options, known)  # whether the pack can do what is asked for, before any work
    torch.manual_seed(options.seed)
    check_installed()
    if known is not None:
        if keywords.get("person_size") is not None or options.person_size not in (None, "auto"):
            raise InputError("a person that is given has its size already: take person or person_size.")
        options = replace(options, person_size=None)
    if options.tuning is not None and options.tuning.imagenet > 0 and weights_file(TUNING_VARIANT) is None:
        say(
            progress or NoProgress(),
            f"{PACKAGES[TUNING_VARIANT]} is not installed: pictures will be softer than they could be.",
        )
    monitor = Monitor(progress, cache)
    # Before the work, so that damaged sound is said at once.
    wanted = options.clip.sound and source.has_audio
    audio = extract_audio(source.path, source.start, source.duration) if wanted else b""

    faces = monitor.run("align", FaceTrack, align_clip, source, networks, options.align, total=source.frame_count)
    if not options.align.aligned:
        _check_one_person(faces, source.fps)
    monitor.show("input", lambda: faces.crops[np.unique(np.linspace(0, len(faces) - 1, 6).round().astype(int))])
    options, monitor.limits = _planned(options, networks, len(faces), progress or NoProgress(), cache or NullCache())
    encoding = encode_track(faces, networks, options, monitor, known)
    if inversions is not None:
        write_video(inversions, as_bytes(encoding.inversion.images()), source.fps, metadata={"comment": SYNTHETIC})
    stream = replace(to_stream(encoding, faces, source.fps, networks, options, known), audio=audio)
    return stream, summarise(encoding, faces, stream, networks, options, monitor)


def _check_one_person(faces: FaceTrack, fps: Fraction) -> None:
    """Raise PersonChangeError where a clip cuts to another person."""
    if not len(faces.cuts):
        return
    # Of the embedded pack whatever pack encodes: how alike two frames of one person are depends on the network.
    known_by = Pack.load("mini").identity
    changes = changes_of_person(faces, known_by, next(known_by.parameters()).device)
    if changes:
        raise PersonChangeError(changes, [frame / float(fps) for frame in changes])


@dataclass(frozen=True)
class _KeptPlan:
    """A `TimePlan` as a cache keeps it, so that a run that is taken up again goes by the plan of the first. `effort`: 0 for
    None."""

    effort: float
    seconds: float
    tune: float
    refine: float


def _planned(
    options: EncodeOptions, pack: Pack, frames: int, progress: Progress, cache: NullCache
) -> tuple[EncodeOptions, dict[str, float]]:
    """The options with the effort for which there is time, and the limits of the loops in seconds. How long it will take
    is said either way."""
    if options.tuning is None or options.refinement is None:
        return options, {}
    tuning, refinement = (
        training.for_clip(frames, batch=batch_at(pack.resolution, training.batch)).steps
        for training in (options.tuning, options.refinement)
    )
    seconds = math.inf if options.minutes is None else 60 * options.minutes

    def measured() -> _KeptPlan:
        found = plan_time(
            seconds, gradient_seconds(pack), frames, tuning, refinement, least=LEAST_EFFORT, most=options.effort
        )
        return _KeptPlan(found.effort or 0.0, found.seconds, *(found.limits.get(k, 0.0) for k in ("tune", "refine")))

    if options.minutes is None:
        say(progress, lambda: f"about {measured().seconds / 60:.1f} minutes on this machine.")
        return options, {}
    plan = cache.stage("plan", _KeptPlan, measured)
    takes = f"about {plan.seconds / 60:.1f} minutes"
    if not plan.effort:
        say(
            progress, f"{takes}: in {options.minutes:g} minutes the person cannot be learned, so the encode is untuned."
        )
        return options.without_tuning(), {}
    say(progress, f"{takes}, with {plan.effort:.2f} of the usual steps.")
    return replace(options, effort=plan.effort), {"tune": plan.tune, "refine": plan.refine}


def align_clip(source: Clip, pack: Pack, options: AlignOptions, *, monitor: StageMonitor) -> FaceTrack:
    """Stage 1: crops of the pack's size, completed by its networks where they reach beyond the frame."""
    size = pack.resolution
    if options.aligned:
        return already_aligned(source, float(source.fps), size=size, tick=monitor.tick)
    faces = align(source, float(source.fps), size=size, face=options.face, tick=monitor.tick)
    return completed(faces, pack.encoder, pack.generator)


def to_stream(
    encoding: Encoding,
    faces: FaceTrack,
    fps: Fraction,
    pack: Pack,
    options: EncodeOptions,
    person: Person | None = None,
) -> Stream:
    """What is sent."""
    placed = not options.align.aligned
    return Stream(
        pack=pack.fingerprint,
        pack_name=pack.name,
        resolution=pack.resolution,
        fps=fps,
        channels=channel_table(pack.channels),
        identity=encoding.avatar.identity.cpu().numpy().astype(np.float16),
        frames=hold_while_lost(encoding.motion.rows(), faces.lost, float(fps)),
        person=person.fingerprint if person else "",
        person_name=person.name if person else "",
        tuning=b"" if person else encoding.weights,
        placement=placement_from_quads(faces.quads, faces.frame_size, faces.lost) if placed else None,
        frame_size=faces.frame_size if placed else None,
    )
