"""What the benchmarks of stages 4 and 5 share: a stretch of a clip taken through stages 1 to 3 once, and figures.

A case is kept under runs/cases and made anew where its file is missing, so that twenty ways of fitting it cost one
alignment and one inversion.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mien.evaluate.metrics.facemesh import MEASURES, measures
from mien.face import mesh as lm
from mien.face.masks import ClipRegions
from mien.face.measures import blinks
from mien.format.weights_codec import apply_delta
from mien.media.images import psnr_from_mse, to_bytes
from mien.media.video import read_video, write_video
from mien.method.avatar import Avatar
from mien.method.image_sequences import synthesise
from mien.method.losses import LossNetworks
from mien.method.problems import AttributeProblem, PoseProblem
from mien.method.solvers.adam_reference import AdamAttributeOptions, AdamPoseOptions
from mien.method.solvers.registry import solve_attributes, solve_pose, solver_named
from mien.method.stage1_align import align as stage1
from mien.method.stage2_invert import invert
from mien.method.stage3_identity import select_identity
from mien.method.stage4_pose import PoseOptions
from mien.method.stage5_attributes import AttributeOptions, warm_start
from mien.method.types import Attributes, FaceTrack, HeadPose, Inversion
from mien.nets.decoder.renderer import Renderer
from mien.nets.generator import Generator
from mien.nets.stylespace import Channel
from mien.packs.pack import Pack
from mien.personalize.generator_params import weights_for
from mien.personalize.options import TuningOptions
from mien.personalize.pti import pivotal_tuning
from mien.personalize.training_data import TrainingData
from mien.runtime.frame_store import CropFile
from mien.runtime.precision import autocast_bf16

CACHE = Path("runs/cases")
DEFAULTS = TuningOptions()
RNAMES = MEASURES[:7]


@dataclass
class Case:
    """Stages 1 to 3 of a stretch: everything that stages 4 and 5 take."""

    name: str
    pack: Pack
    crops: FaceTrack
    generator: Generator
    w_plus: Tensor
    identity: Tensor
    identity_frame: int
    measured: Tensor
    areas: ClipRegions
    blink: Tensor
    seconds: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.w_plus)

    def avatar(self, channels: tuple[Channel, ...] | None = None) -> Avatar:
        """Who is fitted, on the pack's channels or others."""
        return Avatar(self.generator, self.pack.flow, channels or self.pack.channels, self.identity)


@dataclass
class Fit:
    """Stages 4 and 5 of a case. `seconds`: process time of each."""

    pose: HeadPose
    attributes: Attributes
    frames: Tensor  # the render, [T, 3, R, R] in [-1, 1]
    seconds: dict[str, float]


def panel(source: Path, index: int, out: Path, start: float, duration: float) -> Path:
    """Cut the `index`-th square out of a clip of squares side by side."""
    if not out.exists():
        clip = read_video(source, start, duration)
        side = clip.size[1]
        out.parent.mkdir(parents=True, exist_ok=True)
        write_video(out, (f[:, index * side : (index + 1) * side] for f in clip), clip.fps)
    return out


def prepare(
    clip: Path, *, pack_name: str = "mini", start: float = 0.0, duration: float = 2.0, aligned: bool = False,
    tuned: bool = False, cover: tuple[int, int] | None = None, options: TuningOptions = DEFAULTS,
) -> Case:  # fmt: skip
    """Stages 1 to 3. `cover`: first and last frame over whose mouth a grey box is laid before stage 1 sees it."""
    pack = Pack.load(pack_name)
    key = f"{clip.stem}-{start:g}-{duration:g}-{pack.fingerprint[:8]}-{int(aligned)}{int(tuned)}-{cover}-{options}"
    path = CACHE / f"{clip.stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.pt"
    crops, seconds = _crops(clip, pack, start, duration, aligned, cover)
    measured = pack.flow.clamp(torch.from_numpy(np.stack([crops.yaw, crops.pitch], 1)).float())
    blink, areas = torch.from_numpy(blinks(crops.landmarks)), ClipRegions(crops.landmarks, crops.size)
    generator, encoder = pack.generator, pack.encoder
    if path.exists():
        kept = torch.load(path, weights_only=True)
        if kept["blob"].numel():
            generator = apply_delta(generator, kept["blob"].numpy().tobytes())
        return Case(clip.stem, pack, crops, generator, kept["w_plus"], kept["identity"], int(kept["frame"]), measured,
                    areas, blink, seconds)  # fmt: skip
    w_plus = invert(encoder, crops.crops)
    found = select_identity(pack.identity, pack.flow, crops, Inversion(w_plus, generator), 128)
    blob = b""
    if tuned:
        data = TrainingData.of(pack, crops.crops, crops.landmarks)
        weights = weights_for(generator, None)
        person = pivotal_tuning(weights, encoder, data, None, options)
        blob = person.delta.tobytes()
        generator, encoder = apply_delta(generator, blob), person.encoder_for(pack)
        w_plus = invert(encoder, crops.crops)
        inversion = Inversion(w_plus, generator)
        found = select_identity(pack.identity, pack.flow, crops, inversion, 128)
    CACHE.mkdir(parents=True, exist_ok=True)
    torch.save({"w_plus": w_plus, "identity": found.w_plus, "frame": torch.tensor(found.frame),
                "blob": torch.from_numpy(np.frombuffer(blob, np.uint8).copy())}, path)  # fmt: skip
    return Case(clip.stem, pack, crops, generator, w_plus, found.w_plus, found.frame, measured, areas, blink, seconds)


def _crops(
    clip: Path, pack: Pack, start: float, duration: float, aligned: bool, cover: tuple[int, int] | None
) -> tuple[FaceTrack, dict[str, float]]:
    path = CACHE / f"{clip.stem}-{start:g}-{duration:g}-{pack.resolution}-{int(aligned)}-{cover}.npz"
    if path.exists():
        kept = dict(np.load(path))
        kept["frame_size"] = tuple(kept["frame_size"].tolist())
        kept["crops"] = CropFile(pack.resolution, kept["crops"])
        return FaceTrack(**kept), {}
    source = read_video(clip, start, duration)
    begin = time.process_time()
    frames: Any = source if cover is None else covered(source, *cover)
    if aligned:
        crops = stage1.already_aligned(frames, float(source.fps), size=pack.resolution)
    else:
        crops = stage1.align(frames, float(source.fps), size=pack.resolution)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{f.name: np.asarray(getattr(crops, f.name)) for f in dataclasses.fields(crops)})
    return crops, {"align": time.process_time() - begin}


def covered(frames: Any, first: int, last: int) -> Any:
    """Frames with a grey box over the mouth from frame `first` to `last`, at the place where the mouth is at
    `first`."""
    box: tuple[slice, slice] | None = None
    mesh = lm.FaceMesh()
    for i, frame in enumerate(frames):
        if first <= i <= last:
            if box is None:
                points = mesh(frame)[0][lm.LIPS_OUTER, :2]
                low, high = points.min(0), points.max(0)
                grow = 0.6 * (high - low).max()
                x0, y0 = (low - grow).astype(int).clip(0)
                x1, y1 = (high + grow).astype(int)
                box = (slice(y0, y1), slice(x0, x1))
            frame = frame.copy()
            frame[box] = 128
        yield frame
    mesh.close()


def shorter(case: Case, frames: int) -> Case:
    """The case's first frames; the identity frame is looked for among them."""
    if frames >= len(case):
        return case
    cut = {f.name: getattr(case.crops, f.name) for f in dataclasses.fields(case.crops)}
    cut["crops"] = CropFile(case.crops.size, case.crops.crops[:frames])
    cut = {k: v[:frames] if isinstance(v, np.ndarray) and len(v) == len(case) else v for k, v in cut.items()}
    return dataclasses.replace(
        case, crops=FaceTrack(**cut), w_plus=case.w_plus[:frames], measured=case.measured[:frames],
        areas=ClipRegions(case.crops.landmarks[:frames], case.crops.size), blink=case.blink[:frames],
        identity_frame=min(case.identity_frame, frames - 1),
    )  # fmt: skip


def fit(
    case: Case, *, name: str = "gauss-newton", channels: tuple[Channel, ...] | None = None,
    pose: PoseOptions | AdamPoseOptions | None = None, attributes: AttributeOptions | AdamAttributeOptions | None = None,
    networks: LossNetworks | None = None, start: Tensor | None = None, blink: Tensor | None = None,
    found: HeadPose | None = None,
) -> Fit:  # fmt: skip
    """Stages 4 and 5 of a case by the solver `name`, or with other options. `found`: a pose to take as it is; `start`:
    another start of stage 5."""
    pack, solver, avatar = case.pack, solver_named(name), case.avatar(channels)
    size = min(pack.stage_sizes.pose, case.generator.resolution)
    targets = synthesise(Renderer(case.generator), case.w_plus, size)
    begin = time.process_time()
    if found is None:
        with autocast_bf16(pack.device):
            problem = PoseProblem(avatar, pack.perceptual, targets, case.measured, case.areas)
            found = solve_pose(problem, pose or solver.pose)
    middle = time.process_time()
    size = min(pack.stage_sizes.attributes, case.generator.resolution)
    targets = synthesise(Renderer(case.generator), case.w_plus, size)
    look = networks or LossNetworks(pack.perceptual, pack.identity, pack.parser)
    begin_attributes = time.process_time()
    warm = warm_start(avatar, case.w_plus, found.angles) if start is None else start
    blink = case.blink if blink is None else blink
    image = targets[case.identity_frame : case.identity_frame + 1]
    with autocast_bf16(pack.device):  # as in `mien.pipeline`
        task = AttributeProblem(avatar, look, found.angles, targets, case.areas, warm, blink, image)
        alpha = solve_attributes(task, attributes or solver.attributes)
    end = time.process_time()
    frames = render(case, found.angles, alpha.alpha, avatar.channels)
    return Fit(found, alpha, frames, {"pose": middle - begin, "attributes": end - begin_attributes})


@torch.no_grad()
def render(case: Case, angles: Tensor, alpha: Tensor, channels: tuple[Channel, ...]) -> Tensor:
    """The render `[T, 3, R, R]` of the case's identity with these numbers."""
    out = []
    for i in range(0, len(angles), 16):
        part = slice(i, i + 16)
        out.append(case.generator.synthesis_from_styles(case.avatar(channels).styles(angles[part], alpha[part])))
    return torch.cat(out).clamp(-1, 1)


@torch.no_grad()
def targets(case: Case) -> Tensor:
    """S_t at full size, `[T, 3, R, R]`."""
    return synthesise(Renderer(case.generator), case.w_plus).clamp(-1, 1)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """PSNR in dB of each frame of two batches in [-1, 1], `[T]`."""
    return torch.from_numpy(psnr_from_mse((a - b).square().mean((1, 2, 3)).cpu(), peak=2))


def face_psnr(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """As `psnr`, over a mask `[T, 1, h, w]` only."""
    mask = torch.nn.functional.interpolate(mask, a.shape[-2:], mode="bilinear")
    error = ((a - b).square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3))).clamp_min(1.0)
    return torch.from_numpy(psnr_from_mse(error.cpu(), peak=2))


def faces(images: Tensor, step: int = 1, size: int = 256) -> np.ndarray:
    """Expression and pose of every `step`-th frame as score.py measures them, `[N, 7]`, NaN where no face is found."""
    frames = images[::step]
    if frames.shape[-1] != size:
        frames = torch.nn.functional.interpolate(frames, (size, size), mode="bicubic", antialias=True)
    mesh = lm.FaceMesh()
    found = [mesh(frame) for frame in to_bytes(frames)]
    mesh.close()
    return np.array([measures(f[0])[:7] if f else np.full(7, np.nan) for f in found])


def correlations(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Pearson's r over time of each measure."""
    seen = ~(np.isnan(a).any(1) | np.isnan(b).any(1))
    return {n: float(np.corrcoef(a[seen, i], b[seen, i])[0, 1]) for i, n in enumerate(RNAMES)}


def jitter(numbers: Tensor, wanted: Tensor) -> float:
    """Root mean square of second differences over time, over that of `wanted` (1: as steady as the inversion)."""
    bend = lambda x: (x[2:] - 2 * x[1:-1] + x[:-2]).square().mean().sqrt()
    return float(bend(numbers) / bend(wanted).clamp_min(1e-9))


__all__ = ["RNAMES", "Case", "Fit", "correlations", "covered", "face_psnr", "faces", "fit", "jitter", "panel",
           "prepare", "psnr", "render", "shorter", "targets"]  # fmt: skip
