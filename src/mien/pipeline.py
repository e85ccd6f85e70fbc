"""A clip to a Stream: the six stages of the paper, in order (Fig. 2)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.face.masks import ClipRegions
from mien.face.measures import blinks
from mien.format.person import Person
from mien.format.stream import Stream
from mien.format.weights_codec import apply_delta
from mien.media.images import psnr, psnr_from_mse, to_bytes
from mien.media.video import SYNTHETIC, write_video
from mien.method.avatar import Avatar, pose_latents
from mien.method.clip_channels import clip_channels
from mien.method.frame_quality import poor_frames, region_errors, unlike
from mien.method.image_sequences import CropFrames, ImageSequence, InvertedFrames
from mien.method.landmark_targets import EXPRESSION, HEAD, Reading, of_inversions, of_mesh
from mien.method.losses import LossNetworks
from mien.method.solvers.registry import optimizer as optimizer_named
from mien.method.stage2_invert import inversion_named, invert
from mien.method.stage3_identity import select
from mien.method.stage5_attributes import warm_start
from mien.method.stage6_render.placement import placement_from_quads
from mien.method.stage6_render.render import render_frames
from mien.method.types import Attributes, FaceTrack, HeadPose, Motion
from mien.nets.generator import Generator
from mien.nets.stylespace import channel_table, read_channels
from mien.packs.pack import Pack
from mien.personalize.gaze_augmentation import Practice, practice
from mien.personalize.generator_params import FixedWeights, weights_for
from mien.personalize.joint_refinement import Refined, RefineOptions, for_clip, refine
from mien.personalize.pti import Tuned, TuneOptions, tune
from mien.personalize.refit import Polished, polish
from mien.personalize.trainer import Material
from mien.runtime.precision import autocast_bf16
from mien.runtime.progress import Progress, show
from mien.runtime.stage_cache import NullCache

CHANNELS = ("pack", "clip")
COMPACT_EFFORT = 1.3  # times the steps where a person is small: Muon, for whole convolutions, does not help its factors
PREVIEWS = 6  # frames that are shown while the work goes on
STAGES = ("align", "invert", "tune", "identity", "pose", "attributes")


@dataclass
class EncodeReport:
    """What an encode did. `seconds` by stage, `psnr` in dB, `poor` frames;
    `resumed`: the stages that an earlier run had done, whose seconds are not counted again."""

    frames: int = 0
    fps: Fraction = Fraction(25)
    resolution: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    bytes: dict[str, Any] = field(default_factory=dict)
    psnr: dict[str, float] = field(default_factory=dict)
    identity_frame: int = 0
    identity_similarity: float = 0.0
    pose_loss: dict[str, float] = field(default_factory=dict)
    poor: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as `mien encode --json` writes it."""
        seconds = {k: round(v, 3) for k, v in self.seconds.items()}
        seconds["total"] = round(sum(self.seconds.values()), 3)
        return {
            "frames": self.frames,
            "fps": float(self.fps),
            "resolution": self.resolution,
            "seconds": seconds,
            "bytes": self.bytes,
            "psnr": {k: round(v, 3) for k, v in self.psnr.items()},
            "identity": {"frame": self.identity_frame, "similarity": round(self.identity_similarity, 4)},
            "pose_loss": {k: round(v, 6) for k, v in self.pose_loss.items()},
            "frames_poor": self.poor,
            "frames_lost": self.lost,
            "resumed": self.resumed,
        }


@dataclass(frozen=True)
class TunedWeights:
    """What tuning gave, as the next stages and a work folder take it: the generator's `delta` (uint8 `[B]`, as it
    travels) and the weights of the `encoder [P]`, empty where it was not tuned."""

    delta: NDArray[np.uint8]
    encoder: Tensor

    @staticmethod
    def of(encoder: nn.Module, tuned: Tuned) -> TunedWeights:
        """The weights of networks that were tuned, the encoder from `encoder`."""
        weights = [] if tuned.encoder is encoder else [p.detach().reshape(-1) for p in tuned.encoder.parameters()]
        return TunedWeights(
            np.frombuffer(tuned.blob, np.uint8),
            torch.cat(weights) if weights else torch.zeros(0),
        )

    def encoder_for(self, pack: Pack) -> nn.Module:
        """The pack's encoder, or a copy of it with the tuned weights."""
        if not len(self.encoder):
            return pack.encoder
        encoder = copy.deepcopy(pack.encoder)
        parameters = list(encoder.parameters())
        with torch.no_grad():
            for p, values in zip(parameters, self.encoder.split([p.numel() for p in parameters]), strict=True):
                p.copy_(values.view(p.shape))
        return encoder


@dataclass(frozen=True)
class RefinedNumbers:
    """What `refine` gave: the generator's `delta` (uint8 `[B]`), `identity [L, D]`, `angles [T, 2]`, `alpha [T, 32]`."""

    delta: NDArray[np.uint8]
    identity: Tensor
    angles: Tensor
    alpha: Tensor

    @staticmethod
    def of(refined: Refined) -> RefinedNumbers:
        """The refined numbers, and the weights as they travel."""
        delta = np.frombuffer(refined.blob, np.uint8)
        return RefinedNumbers(delta, refined.identity, refined.angles, refined.alpha)


def encode_crops(
    crops: FaceTrack, fps: Fraction, pack: Pack, *, tune_clip: bool, person_size: int | None = None,
    person: Person | None = None, inversion: str = "encoder", effort: float = 1.0, aligned: bool, seed: int,
    progress: Progress, report: EncodeReport, optimizer: str = "gauss-newton", channels: str = "pack",
    inversions: Path | None = None, real_targets: bool = False, work: NullCache,
) -> Stream:  # fmt: skip
    """Stages 2 to 5 on aligned crops, then the numbers as a Stream."""
    count = len(crops)
    areas = ClipRegions(crops.landmarks, crops.size, pack.device)
    measured = torch.from_numpy(np.stack([crops.yaw, crops.pitch], 1)).float().to(pack.device)
    measured = pack.flow.clamp(measured)
    shut = blinks(crops.landmarks)
    blink = torch.from_numpy(shut).to(pack.device)
    encoder, solver, look_again = pack.encoder, optimizer_named(optimizer), inversion_named(inversion)
    blob = person.tuning if person else b""
    generator = apply_delta(pack.generator, blob) if person else pack.generator
    effort *= COMPACT_EFFORT if person_size is not None else 1.0
    tuning = for_clip(TuneOptions(seed=seed), count, effort)
    refining = for_clip(RefineOptions(seed=seed), count, effort)

    some = np.unique(np.linspace(0, count - 1, PREVIEWS).round().astype(int))
    show(progress, "input", lambda: np.stack([crops.crops[i] for i in some]))
    with timed(report, "invert"), progress.stage("invert", count) as tick:
        w_plus = work.stage("invert", Tensor, lambda: invert(
            look_again(pack, encoder, generator), crops.crops, device=pack.device, tick=tick))  # fmt: skip
    show(progress, "inverted", lambda: np.stack(list(_inverted(generator, w_plus[some]))))
    with timed(report, "identity"), progress.stage("identity", None):
        identity = _choose(pack, generator, crops, w_plus, measured, shut)
        if channels == "clip":
            posed = pose_latents(pack.flow, identity.w_plus, measured)
            pack = replace(pack, channels=clip_channels(generator, w_plus, posed, areas, pack.flow.pose.rows))
    size = min(128, generator.resolution)
    unexplained = region_errors(crops.crops, InvertedFrames(generator, w_plus, size), areas)
    material = Material.of(pack, crops.crops, crops.landmarks)
    if tune_clip:
        weights = FixedWeights(generator, blob) if person else weights_for(generator, person_size)
        with timed(report, "tune"), progress.stage("tune", tuning.steps, "steps") as tick:
            glances = _glances(pack, crops, ~shut & ~crops.lost & ~crops.bridged, seed)
            drill = material.and_more(glances.pictures, glances.landmarks)
            each = torch.from_numpy(np.concatenate([np.arange(count), glances.frames]))
            tuned = work.stage("tune", TunedWeights, lambda: TunedWeights.of(encoder, tune(
                weights, encoder, drill, measured[each], identity.frame, tuning, tick, work.loop("tune"))))  # fmt: skip
            # What the receiver will have: the difference as it travels.
            blob = tuned.delta.tobytes()
            generator, encoder = apply_delta(pack.generator, blob), tuned.encoder_for(pack)
            w_plus = invert(look_again(pack, encoder, generator), crops.crops, device=pack.device)
            identity = _choose(pack, generator, crops, w_plus, measured, shut, frame=identity.frame)
    report.identity_frame, report.identity_similarity = identity.frame, identity.similarity
    report.psnr["inversion"] = _psnr(crops, _inverted(generator, w_plus))
    if inversions is not None:
        write_video(inversions, _inverted(generator, w_plus), fps, metadata={"comment": SYNTHETIC})

    # What is refined afterwards is asked for its expression then, on the frames themselves.
    read: Reading | None = None
    if not tune_clip:
        small = InvertedFrames(generator, w_plus, min(128, generator.resolution))
        mesh = of_mesh(crops.landmarks, crops.size).to(pack.device)
        read = of_inversions(pack.landmark_reader, small, mesh, material.reading)
    with timed(report, "pose"), progress.stage("pose", count) as tick, autocast_bf16(pack.device):
        size = min(64, generator.resolution)
        turn = solver.pose_to_refine if tune_clip else solver.pose
        pose = work.stage("pose", HeadPose, lambda: turn(
            generator, pack.flow, pack.perceptual, identity.w_plus, InvertedFrames(generator, w_plus, size),
            measured, areas, tick=tick, reading=None if read is None else read.of(HEAD)))  # fmt: skip
        report.pose_loss = {"measured": float(pose.initial_loss.mean()), "fitted": float(pose.loss.mean())}
    with timed(report, "attributes"), progress.stage("attributes", count) as tick, autocast_bf16(pack.device):
        posed = pose_latents(pack.flow, identity.w_plus, pose.angles)
        size = min(128, generator.resolution)
        targets: ImageSequence = InvertedFrames(generator, w_plus, size)
        if real_targets:
            targets = CropFrames(crops.crops, size, pack.device)
        look = LossNetworks(pack.perceptual, pack.identity, pack.parser)
        fit = solver.attributes_to_refine if tune_clip else solver.attributes
        fitted = work.stage("attributes", Attributes, lambda: fit(
            generator, look, pack.channels, posed, targets, areas, warm_start(generator, w_plus, posed, pack.channels),
            blink, targets[identity.frame : identity.frame + 1], tick=tick,
            reading=None if read is None else read.of(EXPRESSION)))  # fmt: skip
    report.poor = poor_frames(fitted.loss, unexplained)
    final, angles, alpha = identity.w_plus, pose.angles, fitted.alpha
    show(progress, "35 numbers", lambda: _rendered(generator, pack, final, angles[some], alpha[some]))
    report.psnr["fit"] = _fit_psnr(pack, generator, final, angles, alpha, w_plus)
    if tune_clip:
        weights = FixedWeights(generator, blob) if person else weights_for(pack.generator, person_size, blob)
        with timed(report, "tune"), progress.stage("refine", refining.steps, "steps") as tick:
            looking = torch.cat([alpha, alpha[each[count:]] + _gaze_moved(pack, generator, encoder, glances, w_plus)])
            refined = work.stage("refine", RefinedNumbers, lambda: RefinedNumbers.of(refine(
                weights, drill, final, angles[each], looking, refining, tick, work.loop("refine"))))  # fmt: skip
            blob = refined.delta.tobytes()
            generator = apply_delta(pack.generator, blob)
            final, angles, alpha = refined.identity, refined.angles[:count], refined.alpha[:count]
    if tune_clip and solver.refits:
        with timed(report, "attributes"), progress.stage("polish", count) as tick, autocast_bf16(pack.device):
            polished = work.stage("polish", Polished, lambda: _polish(
                pack, generator, final, angles, alpha, crops, areas, blink, material.reading, tick))  # fmt: skip
            angles, alpha = polished.angles, polished.alpha

    frames = np.concatenate([crops.roll[:, None], angles.cpu().numpy(), alpha.cpu().numpy()], axis=1).astype(np.float16)
    stream = Stream(
        pack=pack.fingerprint,
        pack_name=pack.name,
        resolution=pack.resolution,
        fps=fps,
        channels=channel_table(pack.channels),
        identity=final.cpu().numpy().astype(np.float16),
        frames=frames,
        person=person.fingerprint if person else "",
        person_name=person.name if person else "",
        tuning=b"" if person else blob,
        placement=None if aligned else placement_from_quads(crops.quads, crops.frame_size, crops.lost),
        frame_size=None if aligned else crops.frame_size,
    )
    report.frames, report.fps, report.resolution = count, fps, pack.resolution
    report.lost = np.flatnonzero(crops.lost).tolist()
    report.psnr["resynthesis"] = _psnr(crops, render_frames(stream, pack, generator))
    report.bytes = stream.accounting()
    return stream


def _choose(
    pack: Pack,
    generator: Generator,
    crops: FaceTrack,
    w_plus: Tensor,
    angles: Tensor,
    shut: NDArray[np.bool_],
    frame: int | None = None,
) -> Any:
    """Stage 3. With `frame`, that frame again (after tuning, whose anchor it was)."""
    allowed = ~shut & ~crops.lost & ~crops.bridged
    if frame is not None:
        allowed = np.arange(len(crops)) == frame
        only = slice(frame, frame + 1)
        real, made = CropFrames(crops.crops[only], 128, pack.device), InvertedFrames(generator, w_plus[only], 128)
        chosen = select(pack.identity, pack.flow, real, made, w_plus[only], angles[only].cpu().numpy())
        return type(chosen)(frame, chosen.similarity, chosen.w_plus)
    size = min(128, generator.resolution)
    real, made = CropFrames(crops.crops, size, pack.device), InvertedFrames(generator, w_plus, size)
    return select(pack.identity, pack.flow, real, made, w_plus, angles.cpu().numpy(), allowed)


def _glances(pack: Pack, crops: FaceTrack, usable: NDArray[np.bool_], seed: int) -> Practice:
    """Frames that look elsewhere, for a pack of the embedded kind, whose encoder reads glances and whose V has channels for them."""
    knows = pack.landmark_reader is not None and any(c.attribute == "gaze" for c in pack.channels)
    return practice(crops.crops, crops.landmarks, usable & knows, seed)


@torch.no_grad()
def _gaze_moved(
    pack: Pack, generator: Generator, encoder: torch.nn.Module, glances: Practice, w_plus: Tensor
) -> Tensor:
    """What the gaze channels of glances have more than those of the frames that they were, as the encoder sees them,
    `[N, 32]`; 0 for other channels. `w_plus [T, L, D]`: of the clip."""
    if not len(glances.frames):
        return w_plus.new_zeros(0, len(pack.channels))
    seen = invert(encoder, glances.pictures, device=pack.device)
    now, before = (
        read_channels(generator.styles(w), pack.channels) for w in (seen, w_plus[torch.from_numpy(glances.frames)])
    )
    gaze = torch.tensor([c.attribute == "gaze" for c in pack.channels], device=now.device)
    return (now - before) * gaze


def _polish(
    pack: Pack, generator: Generator, identity: Tensor, angles: Tensor, alpha: Tensor,
    crops: FaceTrack, areas: ClipRegions, blink: Tensor, reading: Reading | None, tick: Callable[[int], None],
) -> Polished:  # fmt: skip
    """The last step: each frame's numbers against the frame, but for frames that the tuned generator does not draw."""
    size = min(128, generator.resolution)
    avatar = Avatar(generator, pack.flow, pack.channels, identity)
    drawn = avatar.images(Motion(torch.from_numpy(crops.roll), angles, alpha), min(64, size))
    covered = torch.from_numpy(crops.lost) | unlike(region_errors(crops.crops, drawn, areas))
    real = CropFrames(crops.crops, size, pack.device)
    return polish(
        avatar, pack.perceptual, angles, alpha, real, areas, covered.to(pack.device), blink, reading, tick=tick
    )  # fmt: skip


@torch.no_grad()
def _rendered(generator: Generator, pack: Pack, identity: Tensor, angles: Tensor, alpha: Tensor) -> NDArray[np.uint8]:
    styles = Avatar(generator, pack.flow, pack.channels, identity).styles(angles, alpha)
    return np.stack(list(to_bytes(generator.synthesis_from_styles(styles))))


def _inverted(generator: Generator, w_plus: Tensor) -> Iterator[NDArray[np.uint8]]:
    for i in range(0, len(w_plus), 16):
        yield from to_bytes(generator.synthesis(w_plus[i : i + 16]))


@torch.no_grad()
def _psnr(crops: FaceTrack, frames: Iterator[NDArray[np.uint8]]) -> float:
    """Mean over frames of the PSNR (dB, uint8 RGB) against the crops."""
    values = []
    for real, made in zip(crops.crops, frames, strict=True):
        values.append(psnr(real, made))
    return float(np.mean(values))


@torch.no_grad()
def _fit_psnr(
    pack: Pack, generator: Generator, identity: Tensor, angles: Tensor, alpha: Tensor, w_plus: Tensor
) -> float:
    """Mean PSNR (dB) of the render against S_t = G(L_t)."""
    values = []
    for i in range(0, len(w_plus), 16):
        part = slice(i, i + 16)
        styles = Avatar(generator, pack.flow, pack.channels, identity).styles(angles[part], alpha[part])
        made = generator.synthesis_from_styles(styles).clamp(-1, 1)
        error = (made - generator.synthesis(w_plus[part]).clamp(-1, 1)).square().mean((1, 2, 3))
        values.append(psnr_from_mse(error.cpu(), peak=2))
    return float(np.concatenate(values).mean())


@contextmanager
def timed(report: EncodeReport, stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        report.seconds[stage] += time.perf_counter() - begin
