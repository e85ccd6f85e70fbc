"""Re-enactment: a person does what a driver's stream does (the paper, Sec. 4.3)."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mien.format.stream import Stream
from mien.method.pivot import usable
from mien.packs.pack import Pack
from mien.packs.resolve import Where, pack_for, stream_channels
from mien.reenact.driving_motion import DrivingMotion, farthest_point_sampling, gaze_of_frames
from mien.reenact.face_source import (
    FaceSource,
    LearnedFace,
    examples_to_learn,
    invert_portrait,
    known_face,
    load_face,
    read_face,
)
from mien.reenact.options import PuppetOptions
from mien.reenact.pivotal_image import PivotalImageTuning, tune_to_image
from mien.reenact.portrait import PortraitTuning, personalize_portrait, portrait_views
from mien.reenact.retarget import RetargetOptions, retarget
from mien.reenact.warp_portrait import WarpedPortraits
from mien.runtime.device import resolve_device
from mien.runtime.progress import NoProgress, Progress


def puppeteer(
    driver: Stream,
    face: FaceSource | str | Path,
    *,
    method: str = "mien",
    options: PuppetOptions | None = None,
    pack: str | Pack | None = None,
    person: Where = None,
    device: str = "auto",
    face_number: int | None = None,
    progress: Progress | None = None,
) -> Stream:
    """Let a face do what a driver does.

    Args:
        driver: whose motion and sound are taken.
        face: who is seen: an image (uint8 RGB `[H, W, 3]` or its path), a stream or a person, or their files.
        method: `mien`, or `paper`: the driver's 35 numbers unchanged, with the other's L_ID and weights; to an image
            the generator is tuned around its fixed inversion.
        options: in place of the preset of a method.
        face_number: which face of an image, counted from 1 from the left; the largest if not given.
        pack: its name, its path or the loaded pack; by default the one that the driver names.
        person: where the driver names a person: that person, its file, or a folder to look in first.

    Returns a stream as long as the driver, with the face's L_ID. The same seed gives the same stream on one machine.

    Raises FaceError where an image shows no face, InputError for a method that is none, PackError and StreamError as
    `mien.render`.
    """
    options = PuppetOptions.of(method) if options is None else options
    source = read_face(Path(face)) if isinstance(face, (str, Path)) else face
    # The puppet has the face's size, and the driver is read at its own, so the networks are those of the larger one.
    size = driver.resolution if isinstance(source, np.ndarray) else source.resolution
    whole = pack_for(driver, pack, max(driver.resolution, size)).to(resolve_device(device))
    load_face(source, whole)
    networks = whole.at(size)
    channels = stream_channels(driver, networks)

    learns = isinstance(options.tuning, PortraitTuning)
    portrait = examples_to_learn(source, driver, networks, learns, face_number)
    if portrait is None:
        learned = known_face(source, networks)
    else:
        progress = progress or NoProgress()
        pivot = usable(options.pivot, networks)
        with progress.stage("pivot", pivot.steps, "steps") if pivot else nullcontext(lambda n: None) as tick:
            avatar, own, w_plus = invert_portrait(portrait, channels, networks, pivot, tick)
        learned = LearnedFace(avatar.identity)
        if isinstance(options.tuning, PivotalImageTuning):
            with progress.stage("portrait", options.tuning.steps, "steps") as tick:
                learned = tune_to_image(portrait, learned, w_plus, networks, options.tuning, tick)
        elif options.tuning is not None:
            motion = DrivingMotion.of(retarget(driver, avatar.identity, networks, options.retargeting), avatar)
            frames = farthest_point_sampling(motion, avatar.scale, options.tuning.frames).sort().values
            motion = motion.part(frames)
            views = WarpedPortraits.none(networks.resolution)
            if options.views is not None:
                gaze = _driver_gaze(driver, whole.at(driver.resolution), frames, options, person)
                views = portrait_views(portrait, avatar, own, motion, gaze, options.eye_transfer)
            with progress.stage("portrait", options.tuning.steps, "steps") as tick:
                learned = personalize_portrait(portrait, avatar, own, motion, views, networks, options.tuning, tick)
    return _stream(driver, learned, networks, retarget(driver, learned.identity, networks, options.retargeting).rows())


def _driver_gaze(
    driver: Stream, pack: Pack, frames: Tensor, options: PuppetOptions, person: Where
) -> NDArray[np.float64] | None:
    """The driver's gaze at `frames [N]` as the face is to take it over, `[N, 2]`; None where it keeps its own."""
    retargeting = options.retargeting or RetargetOptions()
    if options.views is None or not options.views.driver_gaze or not retargeting.gaze:
        return None
    return retargeting.strength * gaze_of_frames(driver, pack, frames, person)


def _stream(driver: Stream, person: LearnedFace, pack: Pack, rows: NDArray[np.float16]) -> Stream:
    """The person's L_ID and weights with the rows `[T, 35]`, at the driver's rate and with the driver's sound."""
    return Stream(
        pack=pack.fingerprint,
        pack_name=pack.name,
        resolution=pack.resolution,
        fps=driver.fps,
        channels=np.asarray(driver.channels),
        identity=person.identity.cpu().numpy().astype(np.float16),
        frames=rows,
        audio=driver.audio,
        tuning=person.tuning,
        person=person.person,
        person_name=person.person_name,
    )
