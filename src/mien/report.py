"""What an encode did, worked out of its result: seconds, bytes, PSNR, frames that are not to be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mien.face.frame_bounds import FrameBounds
from mien.format.stream import Stream
from mien.media.images import psnr, psnr_from_mse, to_bytes
from mien.method.frame_quality import region_errors, unreliable_frames
from mien.method.image_sequences import BATCH, ImageSequence
from mien.method.solvers.adam_reference import AdamAttributeOptions
from mien.method.stage6_render.render import render_frames
from mien.method.types import FaceTrack
from mien.options import EncodeOptions
from mien.packs.imagenet import TUNING_VARIANT, weights_file
from mien.packs.pack import Pack
from mien.personalize.options import TrainingOptions
from mien.pipeline import Encoding
from mien.runtime.monitor import Monitor

REPORTED_FRAMES = 32  # evenly spread over the clip, of which S_t is drawn
STAGES = ("align", "invert", "tune", "identity", "pose", "attributes", "refine", "refit")


@dataclass(frozen=True)
class EncodeReport:
    """What an encode did.

    `seconds` by stage, 0 for those that were left out; `psnr` in dB: S_t against I_t (`inversion`) and the render against
    S_t (`fit`), both of up to 32 frames, and the render against I_t (`resynthesis`), of all; `pose_loss`: Eq. 2 at the
    measured and at the fitted angles;
    `minimises`: the loss of which each number is the minimum; `unreliable`: frames whose fit is not to be trusted;
    `lost`: frames without a face; `cuts`: at which another shot of the same person begins; `resumed`: the stages that
    an earlier run had done, whose seconds are not counted again.
    """

    method: str
    frames: int
    fps: Fraction
    resolution: int
    seconds: dict[str, float]
    bytes: dict[str, Any]
    psnr: dict[str, float]
    identity_frame: int
    identity_similarity: float
    pose_loss: dict[str, float]
    minimises: dict[str, str]
    unreliable: list[int]
    lost: list[int]
    cuts: list[int]
    resumed: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as `mien encode --json` writes it."""
        seconds = {k: round(v, 3) for k, v in self.seconds.items()}
        seconds["total"] = round(sum(self.seconds.values()), 3)
        return {
            "method": self.method,
            "frames": self.frames,
            "fps": float(self.fps),
            "resolution": self.resolution,
            "seconds": seconds,
            "bytes": self.bytes,
            "psnr": {k: round(v, 3) for k, v in self.psnr.items()},
            "identity": {"frame": self.identity_frame, "similarity": round(self.identity_similarity, 4)},
            "pose_loss": {k: round(v, 6) for k, v in self.pose_loss.items()},
            "minimises": self.minimises,
            "frames_poor": self.unreliable,
            "frames_lost": self.lost,
            "cuts": [{"frame": i, "seconds": round(i / float(self.fps), 3)} for i in self.cuts],
            "resumed": self.resumed,
        }


def summarise(
    encoding: Encoding, faces: FaceTrack, stream: Stream, pack: Pack, options: EncodeOptions, monitor: Monitor
) -> EncodeReport:
    """The report of an encode of `faces`."""
    pose, sizes = encoding.pose, pack.stage_sizes
    first = encoding.first_inversion.images(min(sizes.attributes, pack.resolution))
    unexplained = region_errors(faces.crops, first, faces.masks(pack.device))
    inversion, fit = _inversion_and_fit(encoding, faces)
    return EncodeReport(
        method=options.method,
        frames=len(faces),
        fps=stream.fps,
        resolution=pack.resolution,
        seconds={name: monitor.seconds.get(name, 0.0) for name in STAGES},
        bytes=stream.accounting(),
        psnr={
            "inversion": inversion,
            "fit": fit,
            "resynthesis": mean_psnr(faces.crops, render_frames(stream, pack, encoding.avatar.generator), faces.bounds),
        },
        identity_frame=encoding.identity.frame,
        identity_similarity=encoding.identity.similarity,
        pose_loss={"measured": float(pose.initial_loss.mean()), "fitted": float(pose.loss.mean())},
        minimises=minimised(options, fixed=bool(stream.person)),
        unreliable=_not_to_be_trusted(encoding.attributes.loss.cpu(), unexplained.cpu(), faces.lost),
        lost=np.flatnonzero(faces.lost).tolist(),
        cuts=faces.cuts.tolist(),
        resumed=monitor.resumed,
    )


def _not_to_be_trusted(loss: torch.Tensor, errors: torch.Tensor, lost: NDArray[np.bool_]) -> list[int]:
    """`unreliable_frames` of those that show the face, judged among themselves, and all that do not."""
    seen = torch.from_numpy(np.flatnonzero(~lost))
    unreliable = seen[torch.tensor(unreliable_frames(loss[seen], errors[seen]), dtype=torch.long)].tolist()
    return sorted(unreliable + np.flatnonzero(lost).tolist())


def minimised(options: EncodeOptions, fixed: bool = False) -> dict[str, str]:
    """Of which loss the weights, L_ID, the angles and the channels that are sent are the minimum. `fixed`: the weights are a
    known person's."""
    target = "S_t = G(L_t)" if options.attributes.target == "inversion" else "the frames I_t"
    slow = isinstance(options.attributes, AdamAttributeOptions)
    facts = {
        "weights": "none: the pack's own",
        "identity": "Eq. 1, over near-frontal frames",
        "angles": "Eq. 2 against S_t = G(L_t)",
        "alpha": f"{'Algorithm 1 with Eq. 3' if slow else 'Eq. 9'} against {target}",
    }
    if options.tuning:
        facts["weights"] = f"pivotal tuning: {_compared(options.tuning)} distance of G(L_t) to the frames I_t"
    if options.refinement:
        joint = f"{_compared(options.refinement)} distance of the renders to the frames I_t, jointly"
        facts = dict.fromkeys(facts, joint)
    if options.refit:
        facts |= dict.fromkeys(("angles", "alpha"), "Eq. 9 against the frames I_t, without L_ID and L_FP")
    if fixed:
        facts["weights"] = "none: the person's own"
    return facts


def _compared(training: TrainingOptions) -> str:
    """The distances that tuning or refinement takes, as words before `distance`."""
    pixels = "L2" if training.pixel_loss == "l2" else "pyramid"
    features = training.imagenet > 0 and weights_file(TUNING_VARIANT) is not None
    return f"{pixels}, perceptual and ImageNet-feature" if features else f"{pixels} and perceptual"


def as_bytes(images: ImageSequence) -> Iterator[NDArray[np.uint8]]:
    """Frames uint8 `[H, W, 3]`, one by one."""
    for i in range(0, len(images), BATCH):
        yield from to_bytes(images[i : i + BATCH])


def mean_psnr(
    real: Iterable[NDArray[np.uint8]],
    made: Iterable[NDArray[np.uint8]],
    bounds: FrameBounds | None = None,
    numbers: Iterable[int] | None = None,
) -> float:
    """Mean over frames of the PSNR (dB, uint8 RGB), within the `bounds` of the frame where they are given. `numbers`:
    the frames' numbers in the clip; from 0 on by default."""
    if bounds is None:
        return float(np.mean([psnr(a, b) for a, b in zip(real, made, strict=True)]))
    values = []
    for number, (a, b) in zip(numbers or count(), zip(real, made, strict=True)):
        weight = bounds.within(slice(number, number + 1), len(a))[0, 0].double().numpy()
        error = np.square(a.astype(np.float64) - b).mean(-1)
        values.append(float(psnr_from_mse((error * weight).sum() / max(weight.sum(), 1.0))))
    return float(np.mean(values))


def _inversion_and_fit(encoding: Encoding, faces: FaceTrack) -> tuple[float, float]:
    """Mean PSNR (dB) of S_t = G(L_t) against the crops, and of the render against S_t, over some frames."""
    chosen = np.unique(np.linspace(0, len(faces) - 1, REPORTED_FRAMES).round().astype(int))
    wanted = encoding.inversion.images()
    rendered = encoding.avatar.images(encoding.motion, encoding.avatar.generator.resolution)
    inverted: list[NDArray[np.uint8]] = []
    fit = []
    for i in range(0, len(chosen), BATCH):
        part = torch.from_numpy(chosen[i : i + BATCH])
        target = wanted[part].clamp(-1, 1)
        error = (rendered[part].clamp(-1, 1) - target).square().mean((1, 2, 3))
        fit.append(psnr_from_mse(error.cpu(), peak=2))
        inverted.extend(to_bytes(target))
    inversion = mean_psnr(faces.crops[chosen], inverted, faces.bounds, chosen.tolist())
    return inversion, float(np.concatenate(fit).mean())
