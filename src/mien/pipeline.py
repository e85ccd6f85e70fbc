"""Fig. 2 of the paper in one function: a track of a face to what is sent of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien.errors import InputError, PackError
from mien.format.person import Person
from mien.format.weights_codec import apply_delta
from mien.media.images import to_bytes
from mien.method.avatar import Avatar
from mien.method.frame_quality import poorly_reconstructed, region_errors
from mien.method.image_sequences import ImageSequence, LatentFile
from mien.method.losses import LossNetworks
from mien.method.problems import AttributeProblem, PoseProblem
from mien.method.solvers.registry import solve_attributes, solve_pose
from mien.method.stage2_invert import encoder_of, invert_clip
from mien.method.stage3_identity import select_identity
from mien.method.stage5_attributes import warm_start
from mien.method.types import Attributes, FaceTrack, HeadPose, Identity, Inversion, Motion
from mien.nets.generator import Generator
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.personalize.generator_params import FixedWeights, Weights, plan_of, weights_for
from mien.personalize.joint_refinement import RefinementResult, refine
from mien.personalize.options import default_person_size
from mien.personalize.pti import TunedWeights, learns_encoder, pivotal_tuning
from mien.personalize.refit import RefitResult, refit_to_frames
from mien.personalize.sampling import batch_at
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import Monitor
from mien.runtime.precision import autocast_bf16

PREVIEWS = 6  # frames that are shown while the work goes on


@dataclass(frozen=True)
class Encoding:
    """What stages 2 to 5 gave. `avatar` and `motion` are what is sent, with the generator's difference to the pack's,
    `weights`. The others are what they came from: S_t of the pack's own generator, `first_inversion`, and of the tuned
    one, `inversion`; L_ID as stage 3 chose it; `pose` and `attributes`, which are the motion where nothing followed
    them, and its start where refinement did."""

    avatar: Avatar
    motion: Motion
    weights: bytes
    first_inversion: Inversion
    inversion: Inversion
    identity: Identity
    pose: HeadPose
    attributes: Attributes


@dataclass(frozen=True)
class Networks:
    """The networks that stand for the person at some point: `generator`, `encoder`, and the generator's difference to
    the pack's, `weights`. `fixed`: a person was given, whose weights stay."""

    pack: Pack
    generator: Generator
    encoder: nn.Module
    weights: bytes = b""
    fixed: bool = False

    @staticmethod
    def of(pack: Pack, options: EncodeOptions, person: Person | None) -> Networks:
        """The pack's, or a person's. Raises InputError and PackError where the pack cannot do what the options ask
        for."""
        blob = person.tuning if person else b""
        generator = apply_delta(pack.generator, blob) if blob else pack.generator
        nets = Networks(pack, generator, encoder_of(pack, generator, options.inversion), blob, person is not None)
        if not nets.trains(options):
            if options.effort != 1.0:
                raise InputError("effort is of what is trained: the weights are the person's, and nothing else is.")
            return nets
        size = nets.person_size(options)
        if size is not None and not nets.fixed:
            plan_of(pack.generator, size)
        if not pack.has_people:
            raise PackError(
                f"the pack {pack.name!r} has no latents of people and no mapping network: training needs one."
            )
        return nets

    def tunes(self, options: EncodeOptions) -> bool:
        """Whether tuning has something to move: weights that do not stay, or the encoder."""
        tuning = options.tuning
        return tuning is not None and (not self.fixed or learns_encoder(self.encoder, tuning))

    def trains(self, options: EncodeOptions) -> bool:
        """Whether anything is trained."""
        return options.refinement is not None or self.tunes(options)

    def tunable(self, options: EncodeOptions) -> Weights:
        """The weights that training changes, from where they are."""
        if self.fixed:
            return FixedWeights(self.generator, self.weights)
        training = (options.refinement if self.weights else options.tuning) or options.refinement
        noise = training.noise if training is not None else None
        return weights_for(self.pack.generator, self.person_size(options), self.weights, noise=noise)

    def person_size(self, options: EncodeOptions) -> int | None:
        """Most bytes of the weights where they are tuned, None for all of them."""
        size = options.person_size
        return default_person_size(self.pack.resolution) if size == "auto" else size

    def compared_size(self, wished: int) -> int:
        """The side, in pixels, at which pictures stand for the finished ones: `wished`, or what tuning draws too. The
        pack's own weights draw small pictures as they do large ones."""
        return self.generator.compared_size(wished) if self.weights else min(wished, self.generator.resolution)

    def with_weights(self, delta: NDArray[np.uint8], tuned: TunedWeights | None = None) -> Networks:
        """With the generator that the receiver will have of the difference `delta` as it travels, and the tuned
        encoder, if it was tuned: fixed pivots are those of the pack's own."""
        generator = apply_delta(self.pack.generator, delta.tobytes())
        encoder = self.encoder
        if tuned is not None and len(tuned.encoder):
            encoder = tuned.encoder_for(self.pack)
        return replace(self, generator=generator, encoder=encoder, weights=delta.tobytes())


def encode_track(
    faces: FaceTrack, pack: Pack, options: EncodeOptions, monitor: Monitor, person: Person | None = None
) -> Encoding:
    """Stages 2 to 5 of Fig. 2, and what the options add to them.

    Without tuning the numbers are those of Eq. 2 and 3, fitted to S_t of the pack's generator; with tuning and nothing
    more (`EncodeOptions.paper`), to S_t of the tuned one (Sec. 4.1). A refinement and a re-fit (ours) take them as
    their start and fit the frames I_t.

    Raises InputError and PackError where the pack cannot do what the options ask for.
    """
    device, sizes = pack.device, pack.stage_sizes
    measured, masks = faces.angles(pack.flow), faces.masks(device)
    nets = Networks.of(pack, options, person)

    w_plus = monitor.run("invert", LatentFile, invert_clip, nets.encoder, faces.crops, device, total=len(faces))
    first = inversion = Inversion(w_plus, nets.generator)
    monitor.show("inverted", lambda: some_frames(inversion.images()))
    data = None
    if nets.trains(options):
        data = TrainingData.of(pack, faces.crops, faces.landmarks, faces.bounds, faces.lost)
    if data is not None and nets.tunes(options):
        nets, inversion = _tune(nets, data, faces, inversion, options, monitor)
    with monitor.stage("identity"):
        identity = select_identity(pack.identity, pack.flow, faces, inversion, nets.compared_size(sizes.identity))

    avatar = Avatar(nets.generator, pack.flow, pack.channels, identity.w_plus)
    with autocast_bf16(device):
        targets = inversion.images(_size(options.pose.size or sizes.pose, nets, options))
        problem = PoseProblem(avatar, pack.perceptual, targets, measured, masks)
        pose = monitor.run("pose", HeadPose, solve_pose, problem, options.pose, total=len(faces))
        attributes = _attributes(avatar, pose, inversion, faces, nets, identity, options, monitor)
    motion = Motion(torch.from_numpy(faces.roll), pose.angles, attributes.alpha)
    monitor.show("35 numbers", lambda: some_frames(avatar.images(motion, pack.resolution)))

    if data is not None and options.refinement is not None:
        nets, avatar, motion = _refine(nets, data, avatar, motion, faces, options, monitor)
    if options.refit is not None:
        motion = _refit(avatar, motion, faces, pack, options, monitor)
    return Encoding(avatar, motion, nets.weights, first, inversion, identity, pose, attributes)


def _size(wished: int, nets: Networks, options: EncodeOptions, target: str = "inversion") -> int:
    """The side of the pictures of stages 4 and 5, in pixels.

    Small pictures of S_t and of the render are drawn by the same part of the generator, tuned or not, so that they are
    like each other; where the numbers that fit them are sent as they are, or where the `target` is a frame, they have
    to be like the finished ones.
    """
    sent = options.refinement is None and options.refit is None
    return nets.compared_size(wished) if sent or target == "frame" else min(wished, nets.pack.resolution)


def some_frames(images: ImageSequence) -> NDArray[np.uint8]:
    """A few evenly spread frames, uint8 `[K, H, W, 3]`."""
    chosen = np.unique(np.linspace(0, len(images) - 1, PREVIEWS).round().astype(int))
    return to_bytes(torch.cat([images[torch.tensor([i])] for i in chosen.tolist()]))


def _tune(
    nets: Networks, data: TrainingData, faces: FaceTrack, inversion: Inversion, options: EncodeOptions, monitor: Monitor,
) -> tuple[Networks, Inversion]:  # fmt: skip
    """Pivotal tuning (Sec. 4.1), and stage 2 again with what was tuned."""
    tuning, pack = options.tuning, nets.pack
    assert tuning is not None
    tuning = replace(tuning, seed=options.seed).for_clip(
        len(faces), options.effort, batch_at(pack.resolution, tuning.batch)
    )
    learned = learns_encoder(nets.encoder, tuning)
    pivots = None if learned else inversion.w_plus
    tuned = monitor.run(
        "tune", TunedWeights, pivotal_tuning, nets.tunable(options), nets.encoder, data, pivots, tuning,
        total=tuning.steps, unit="steps",
    )  # fmt: skip
    nets = nets.with_weights(tuned.delta, tuned)
    w_plus = invert_clip(nets.encoder, faces.crops, pack.device) if learned else inversion.w_plus
    return nets, Inversion(w_plus, nets.generator)


def _attributes(
    avatar: Avatar, pose: HeadPose, inversion: Inversion, faces: FaceTrack, nets: Networks, identity: Identity,
    options: EncodeOptions, monitor: Monitor,
) -> Attributes:  # fmt: skip
    """Stage 5."""
    pack, target = nets.pack, options.attributes.target
    size = _size(options.attributes.size or pack.stage_sizes.attributes, nets, options, target)
    targets: ImageSequence = inversion.images(size)
    if target == "frame":
        targets = faces.images(size, pack.device)
    problem = AttributeProblem(
        avatar=avatar,
        networks=LossNetworks(pack.perceptual, pack.identity, pack.parser),
        angles=pose.angles,
        targets=targets,
        masks=faces.masks(pack.device),
        start=warm_start(avatar, inversion.w_plus, pose.angles),
        blink=torch.from_numpy(faces.blink).to(pack.device),
        identity_image=targets[identity.frame : identity.frame + 1],
    )
    return monitor.run("attributes", Attributes, solve_attributes, problem, options.attributes, total=len(faces))


def _refine(
    nets: Networks, data: TrainingData, avatar: Avatar, motion: Motion, faces: FaceTrack, options: EncodeOptions,
    monitor: Monitor,
) -> tuple[Networks, Avatar, Motion]:  # fmt: skip
    """The joint pass over weights, L_ID and numbers, against I_t."""
    refinement, pack = options.refinement, nets.pack
    assert refinement is not None
    refinement = replace(refinement, seed=options.seed).for_clip(
        len(faces), options.effort, batch_at(pack.resolution, refinement.batch)
    )
    # Irises that lids cover cannot be seen: their gaze stays as it is (Sec. 3.4).
    blink = torch.from_numpy(faces.blink).to(pack.device)
    refined = monitor.run(
        "refine", RefinementResult, refine, nets.tunable(options), data, avatar.identity,
        motion.angles, motion.alpha, blink[:, None] & avatar.gaze[None], refinement, total=refinement.steps, unit="steps",
    )  # fmt: skip
    nets = nets.with_weights(refined.delta)
    avatar = replace(avatar, generator=nets.generator, identity=refined.identity)
    return nets, avatar, replace(motion, angles=refined.angles, alpha=refined.alpha)


def _refit(
    avatar: Avatar, motion: Motion, faces: FaceTrack, pack: Pack, options: EncodeOptions, monitor: Monitor,
) -> Motion:  # fmt: skip
    """Each frame's numbers against the frame, but for frames that the tuned generator does not draw."""
    assert options.refit is not None
    size = avatar.generator.compared_size(pack.stage_sizes.attributes)
    drawn = avatar.images(motion, avatar.generator.compared_size(pack.stage_sizes.pose))
    masks = faces.masks(pack.device)
    with autocast_bf16(pack.device):
        errors, covered = region_errors(faces.crops, drawn, masks), torch.from_numpy(faces.lost.copy())
        covered[~covered] = poorly_reconstructed(errors[~covered])  # what is usual is asked of frames with a face
        refit = monitor.run(
            "refit", RefitResult, refit_to_frames, avatar, pack.perceptual, motion.angles, motion.alpha,
            faces.images(size, pack.device), masks, covered.to(pack.device),
            torch.from_numpy(faces.blink).to(pack.device), options.refit, total=len(faces),
        )  # fmt: skip
    return replace(motion, angles=refit.angles, alpha=refit.alpha)
