"""Train generator, encoder and head-pose flow together.

    python -m mien.train autoencoder --data runs/data --parser runs/parser -o runs/ae --size 64 --minutes 40

Five kinds of picture teach five things:

- *reconstruction* of stills and clip frames, G(E(x));
- *pairs* of frames a, b of one clip: b is rendered from a's latent with the head turned through the flow (two angles)
  and b's values on the 32 expression channels, nothing else. This is the paper's Eq. 4 as a training signal, and what
  makes 35 numbers enough;
- *swaps*: the channels of some attributes (mouth, eyes, brows, gaze) and perhaps the head pose are taken from another
  person; outside the attributes' masks nothing may change, and the landmarks must show the other's expression. This
  keeps the channels local and gives them the same meaning for everybody;
- an *adversary* (patches, hinge loss), in the last part, for sharpness.

At 256x256 the losses see the whole picture at half the resolution and a random window of it at the full one: the last
block costs a quarter then, and the RGB sums that stages 4 and 5 look at are pictures in their own right.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mien.nets.face_parser import FaceParser
from mien.nets.identity_net import IdentityNet
from mien.personalize.muon import Muon
from mien.runtime.memory_format import channels_last
from mien.runtime.precision import autocast_bf16
from mien.train.autoencoder.model_losses import Trainer
from mien.train.common import Run, plot_losses
from mien.train.dataset import Faces
from mien.train.losses import PatchDiscriminator, balance, sum_of
from mien.train.networks import Networks, take_over
from mien.train.parallel import Workers


def train(
    data: Path, parser_run: Path, out: Path, *, size: int, resolution: int, minutes: float, batch: int = 16, seed: int = 0,
    rate: float = 2e-3, adversary: float = 0.0, decay_rate: bool = False, sheet_every: int = 1000,
    start: Path | None = None, freeze_below: int = 0, device: str = "cpu", identity_run: Path | None = None,
) -> None:  # fmt: skip
    """Train at `size` for `minutes`, resuming from `out`; the generator's full resolution is `resolution`. A new run
    may `start` from a pack's weights (of a lower resolution too). `identity_run`: a trained identity network, by which
    a person must be known again in a swap. `freeze_below`: leave blocks under this resolution,
    the encoder and the flow as they are, and train the upper blocks only: twice as fast, and what channels mean stays."""
    torch.manual_seed(seed)
    workers = Workers()
    faces = Faces(data, max(128, size))
    parser = FaceParser()
    parser.load_state_dict(torch.load(parser_run / "checkpoint.pt", weights_only=True)["parser"])
    identity: IdentityNet | None = None
    if identity_run is not None:
        identity = channels_last(IdentityNet()).to(device)
        identity.load_state_dict(torch.load(identity_run / "checkpoint.pt", weights_only=True)["identity"])
    nets, mean = Networks.build(resolution), Networks.build(resolution)
    for module in (*nets.modules().values(), *mean.modules().values(), parser):
        channels_last(module)
    if start is not None:
        take_over(nets, start)
    mean.load(nets.state())
    discriminator = channels_last(PatchDiscriminator())
    for module in (*nets.modules().values(), *mean.modules().values(), parser, discriminator):
        module.to(device)
    trainer = Trainer(nets, parser, faces, size, seed, device, identity)
    if start is not None and not freeze_below:
        trainer.least = trainer.least_inside()
    if freeze_below:
        nets.encoder.requires_grad_(False)
        nets.flow.requires_grad_(False)
        nets.generator.const.requires_grad_(False)
        for layer, block in zip(nets.generator.layers, nets.generator.blocks, strict=True):
            block.requires_grad_(layer.resolution >= freeze_below)
    # Where a pack is gone on from, its last block is the new one: it has the most to learn.
    last = {id(p) for layer, block in zip(nets.generator.layers, nets.generator.blocks, strict=True)
            for p in block.parameters() if layer.resolution == resolution}  # fmt: skip
    fresh = [p for p in nets.generator.parameters() if id(p) in last]
    known = [p for p in nets.generator.parameters() if id(p) not in last]
    groups = [
        {"params": known, "lr": rate, "scale": 1.0},
        {"params": fresh, "lr": rate, "scale": 4.0 if start is not None else 1.0},
        {"params": list(nets.encoder.parameters()), "lr": 0.3 * rate, "scale": 0.3},
        {"params": list(nets.flow.parameters()), "lr": 0.3 * rate, "scale": 0.3},
    ]
    optimiser = Muon(groups, (0.5, 0.99), momentum=0.9, share=0.25, fused=True)
    d_optimiser = torch.optim.Adam(discriminator.parameters(), lr=5e-4, betas=(0.0, 0.99))
    run = Run(out)
    step = 0
    if state := run.load():
        nets.load(state["nets"])
        mean.load(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        discriminator.load_state_dict(state["discriminator"])
        d_optimiser.load_state_dict(state["d_optimiser"])
        step = state["step"]
    # A resumed run must not see the same batches again, nor two workers the same ones.
    faces.random = np.random.RandomState(seed + step + 7919 * workers.rank)
    trainer.random.manual_seed(seed + step + 7919 * workers.rank)
    pairs = batch // 2
    began, count = time.time(), 0
    end = workers.agree(time.time()) + 60 * minutes
    sums: dict[str, float] = {}
    first = step
    usual: float | None = None

    def save() -> None:
        if workers.rank:
            return
        run.save(
            nets=nets.state(), mean=mean.state(), optimiser=optimiser.state_dict(), step=step, size=size, resolution=resolution,
            discriminator=discriminator.state_dict(), d_optimiser=d_optimiser.state_dict(),
        )  # fmt: skip

    while workers.agree(time.time()) < end:
        warm = min(1.0, (step - first + 1) / 30)
        fall = min(1.0, (end - time.time()) / (60 * minutes) * 2 + 0.05) if decay_rate else 1.0
        for group in optimiser.param_groups:
            group["lr"] = rate * group["scale"] * warm * fall
        if freeze_below:
            losses, fake, real, free = trainer.upper_losses(batch - pairs, pairs, freeze_below)
        else:
            losses, fake, real, free = trainer.losses(batch - pairs, pairs)
        if adversary:
            with autocast_bf16(trainer.device):
                judged = -sum_of(x.float().mean() for x in discriminator(fake))
                judged_free = -sum_of(x.float().mean() for x in discriminator(free)) if len(free) else 0
            losses["adversary"] = adversary * balance(losses, judged, fake) * (judged + judged_free)
        loss = sum_of(losses.values())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        workers.average(nets.parameters())
        norm = float(nn.utils.clip_grad_norm_(nets.parameters(), 2.0))
        usual = norm if usual is None else 0.98 * usual + 0.02 * min(norm, 2 * usual)
        if norm < 8 * usual:  # a rare outlier (or a number that is not finite) would undo hundreds of steps
            optimiser.step()
        if adversary:
            with autocast_bf16(trainer.device):
                on_fake, on_real = discriminator(torch.cat([fake, free]).detach()), discriminator(real)
            d_loss = sum_of(
                F.relu(1 + x.float()).mean() + F.relu(1 - y.float()).mean()
                for x, y in zip(on_fake, on_real, strict=True)
            )
            d_optimiser.zero_grad(set_to_none=True)
            d_loss.backward()
            workers.average(list(discriminator.parameters()))
            d_optimiser.step()
            losses["discriminator"] = d_loss
        mean.average(nets, min(0.995, (step + 1) / (step + 20)))
        step += 1
        count += 1
        for k, v in losses.items():
            sums[k] = sums.get(k, 0.0) + float(v.detach())
        if step % 50 == 0 and workers.rank == 0:
            run.log(step, **{k: v / count for k, v in sums.items()}, steps_s=count / (time.time() - began))
            sums, count, began = {}, 0, time.time()
        if step % 100 == 0:
            save()
        if step % sheet_every == 0 and workers.rank == 0:
            run.log(step, held_out_psnr=trainer.sheet(mean, run, f"sheet_{size}_{step:06d}"))
    if workers.rank == 0:
        save()
        run.log(step, held_out_psnr=trainer.sheet(mean, run, f"sheet_{size}_{step:06d}"))
        plot_losses(out)
