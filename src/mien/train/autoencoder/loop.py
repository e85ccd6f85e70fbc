"""Train generator, encoder and head-pose flow together.

    python -m mien.train autoencoder --data runs/data --parser runs/parser -o runs/ae --size 64 --minutes 40

Its losses:

- *reconstruction* of stills and clip frames, G(E(x));
- *pairs* of frames a, b of one clip: b is rendered from a's latent with the head turned through the flow (two angles)
  and b's values on the 32 expression channels, nothing else. This is the paper's Eq. 4 as a training signal, and what
  makes 35 numbers enough;
- *swaps*: the channels of some attributes (mouth, eyes, brows, gaze) and perhaps the head pose are taken from another
  person; outside the attributes' masks nothing may change, and the landmarks must show the other's expression. This
  keeps the channels local and gives them the same meaning for everybody;
- an *adversary* (patches, hinge loss), in the last part, for sharpness.

At 256x256 the losses see the whole image at half the resolution and a random window of it at the full one: the last
block costs a quarter then, and the partial RGB sums that stages 4 and 5 look at are images in their own right.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.face_parser import FaceParser
from mien.nets.identity_net import IdentityNet
from mien.personalize.muon import Muon
from mien.runtime.memory_format import channels_last
from mien.runtime.precision import autocast_bf16
from mien.train.autoencoder.contact_sheet import contact_sheet
from mien.train.autoencoder.model_losses import AutoencoderTrainer
from mien.train.autoencoder.step import StepLosses
from mien.train.common import Run, checkpoint_of, plot_losses
from mien.train.dataset import Faces
from mien.train.losses import PatchDiscriminator, balance, sum_of
from mien.train.networks import Networks, load_matching
from mien.train.parallel import Workers

LOG_EVERY, SAVE_EVERY = 50, 100  # steps
WARM_UP = 30  # steps in which the learning rate rises
OUTLIER = 8  # gradients longer than so many times the usual length are not followed: one can undo hundreds of steps


@dataclass(frozen=True)
class AutoencoderOptions:
    """How to train.

    Attributes:
        size: resolution of this phase.
        resolution: resolution of the finished generator.
        minutes: how long to train.
        batch: what a step takes: half of it stills, half of it pairs of two images.
        seed: of all random numbers.
        rate: learning rate of the generator; encoder and flow take 0.3 of it.
        adversary: weight of the adversary, 0 for none.
        decay_rate: let the learning rate fall over the second half.
        sheet_every: steps from one contact sheet to the next.
        start: a pack whose weights a new run starts from, perhaps of a lower resolution.
        freeze_below: train only the generator's blocks from this resolution on; 0 for all networks.
        device: where to train.
        identity_run: folder of a trained identity network, by which a swap must show the recipient; None for none.
    """

    size: int
    resolution: int
    minutes: float
    batch: int = 16
    seed: int = 0
    rate: float = 2e-3
    adversary: float = 0.0
    decay_rate: bool = False
    sheet_every: int = 1000
    start: Path | None = None
    freeze_below: int = 0
    device: str = "cpu"
    identity_run: Path | None = None


def train(data: Path, parser_run: Path, out: Path, options: AutoencoderOptions) -> None:
    """Train on the folder `data` with the parser of `parser_run`, resuming from `out`.

    Raises InputError where `data` was not prepared, or the parser or the identity network was not trained.
    """
    torch.manual_seed(options.seed)
    loop = _Loop(data, parser_run, Run(out), options)
    while loop.workers.agree(time.time()) < loop.end:
        loop.step_once()
    if loop.workers.rank == 0:
        loop.save()
        loop.show()
        plot_losses(out)


class _Loop:
    """The networks in training, their optimisers, and what is logged of them."""

    def __init__(self, data: Path, parser_run: Path, run: Run, options: AutoencoderOptions) -> None:
        self.options, self.run, self.workers = options, run, Workers()
        parser_state = checkpoint_of(parser_run)["parser"]
        self.faces = Faces(data, max(128, options.size))
        self.nets, self.mean = Networks.build(options.resolution), Networks.build(options.resolution)
        parser, self.discriminator = FaceParser(), PatchDiscriminator()
        parser.load_state_dict(parser_state)
        for module in (*self.nets.modules().values(), *self.mean.modules().values(), parser, self.discriminator):
            channels_last(module)
        if options.start is not None:
            load_matching(self.nets, options.start)
        self.mean.load(self.nets.state())
        for module in (*self.nets.modules().values(), *self.mean.modules().values(), parser, self.discriminator):
            module.to(options.device)
        identity: IdentityNet | None = None
        if options.identity_run is not None:
            identity = channels_last(IdentityNet()).to(options.device)
            identity.load_state_dict(checkpoint_of(options.identity_run)["identity"])
        self.trainer = AutoencoderTrainer(
            self.nets, parser, self.faces, options.size, options.seed, options.device, identity
        )
        if options.freeze_below:
            _freeze(self.nets, options.freeze_below)
        elif options.start is not None:
            self.trainer.min_inside_change = self.trainer.inside_change()
        self.optimiser = Muon(_groups(self.nets, options), (0.5, 0.99), momentum=0.9, share=0.25, fused=True)
        self.d_optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=5e-4, betas=(0.0, 0.99))
        self.step = self._resume()
        self.first = self.step
        # A resumed run must not see the same batches again, nor two workers the same ones.
        seed = options.seed + self.step + 7919 * self.workers.rank
        self.faces.random = np.random.RandomState(seed)
        self.trainer.random.manual_seed(seed)
        self.usual_norm: float | None = None
        self.sums: dict[str, float] = {}
        self.count, self.began = 0, time.time()
        self.end = self.workers.agree(self.began) + 60 * options.minutes

    def _resume(self) -> int:
        """Load the run's checkpoint where there is one; returns the step that it is of."""
        state = self.run.load()
        if not state:
            return 0
        self.nets.load(state["nets"])
        self.mean.load(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.d_optimiser.load_state_dict(state["d_optimiser"])
        return int(state["step"])

    def save(self) -> None:
        """Write the checkpoint."""
        self.run.save(
            nets=self.nets.state(), mean=self.mean.state(), optimiser=self.optimiser.state_dict(), step=self.step,
            size=self.options.size, resolution=self.options.resolution,
            discriminator=self.discriminator.state_dict(), d_optimiser=self.d_optimiser.state_dict(),
        )  # fmt: skip

    def show(self) -> None:
        """Write a contact sheet of the running average, and log its PSNR."""
        name = f"sheet_{self.options.size}_{self.step:06d}"
        self.run.log(self.step, held_out_psnr=contact_sheet(self.mean, self.faces, self.options.size, self.run, name))

    def step_once(self) -> None:
        """One step of all networks, with what is logged, saved and shown after it."""
        options, pairs = self.options, self.options.batch // 2
        warm = min(1.0, (self.step - self.first + 1) / WARM_UP)
        left = (self.end - time.time()) / (60 * options.minutes)
        fall = min(1.0, 2 * left + 0.05) if options.decay_rate else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * group["scale"] * warm * fall
        if options.freeze_below:
            seen = self.trainer.upper_losses(options.batch - pairs, pairs, options.freeze_below)
        else:
            seen = self.trainer.losses(options.batch - pairs, pairs)
        if options.adversary:
            seen.losses["adversary"] = self._adversarial_loss(seen)
        self._follow(sum_of(seen.losses.values()))
        if options.adversary:
            seen.losses["discriminator"] = self._train_discriminator(seen)
        self.mean.average(self.nets, min(0.995, (self.step + 1) / (self.step + 20)))
        self.step += 1
        self._report(seen.losses)

    def _adversarial_loss(self, seen: StepLosses) -> Tensor:
        with autocast_bf16(self.trainer.device):
            judged = -sum_of(x.float().mean() for x in self.discriminator(seen.rendered))
            unpaired: Tensor | float = 0.0
            if len(seen.unpaired):
                unpaired = -sum_of(x.float().mean() for x in self.discriminator(seen.unpaired))
        return self.options.adversary * balance(seen.losses, judged, seen.rendered) * (judged + unpaired)

    def _follow(self, loss: Tensor) -> None:
        """Step down the loss unless its gradient is an outlier."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.workers.average(self.nets.parameters())
        norm = float(nn.utils.clip_grad_norm_(self.nets.parameters(), 2.0))
        if not math.isfinite(norm):
            return
        usual = norm if self.usual_norm is None else self.usual_norm
        self.usual_norm = 0.98 * usual + 0.02 * min(norm, 2 * usual)
        if norm < OUTLIER * self.usual_norm:
            self.optimiser.step()

    def _train_discriminator(self, seen: StepLosses) -> Tensor:
        with autocast_bf16(self.trainer.device):
            on_fake = self.discriminator(torch.cat([seen.rendered, seen.unpaired]).detach())
            on_real = self.discriminator(seen.images)
        loss = sum_of(
            F.relu(1 + x.float()).mean() + F.relu(1 - y.float()).mean() for x, y in zip(on_fake, on_real, strict=True)
        )
        self.d_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.workers.average(list(self.discriminator.parameters()))
        self.d_optimiser.step()
        return loss

    def _report(self, losses: dict[str, Tensor]) -> None:
        self.count += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        first = self.workers.rank == 0
        if self.step % LOG_EVERY == 0 and first:
            means = {name: value / self.count for name, value in self.sums.items()}
            self.run.log(self.step, **means, steps_s=self.count / (time.time() - self.began))
            self.sums, self.count, self.began = {}, 0, time.time()
        if self.step % SAVE_EVERY == 0 and first:
            self.save()
        if self.step % self.options.sheet_every == 0 and first:
            self.show()


def _freeze(nets: Networks, below: int) -> None:
    """Leave only the generator's blocks from resolution `below` on to be trained."""
    nets.encoder.requires_grad_(False)
    nets.flow.requires_grad_(False)
    nets.generator.const.requires_grad_(False)
    for layer, block in zip(nets.generator.layers, nets.generator.blocks, strict=True):
        block.requires_grad_(layer.resolution >= below)


def _groups(nets: Networks, options: AutoencoderOptions) -> list[dict[str, Any]]:
    """Parameters by learning rate. Where a pack is gone on from, the last block is new and has the most to learn."""
    generator, rate = nets.generator, options.rate
    last = {
        id(p)
        for layer, block in zip(generator.layers, generator.blocks, strict=True)
        for p in block.parameters()
        if layer.resolution == options.resolution
    }
    fresh = [p for p in generator.parameters() if id(p) in last]
    known = [p for p in generator.parameters() if id(p) not in last]
    return [
        {"params": known, "lr": rate, "scale": 1.0},
        {"params": fresh, "lr": rate, "scale": 4.0 if options.start is not None else 1.0},
        {"params": list(nets.encoder.parameters()), "lr": 0.3 * rate, "scale": 0.3},
        {"params": list(nets.flow.parameters()), "lr": 0.3 * rate, "scale": 0.3},
    ]
