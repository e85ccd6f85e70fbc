"""Hold each of a pack's 32 channels to its attribute's mask, and leave everything else as it is.

    python -m mien.train confine --pack PACK --data runs/data -o runs/confined --minutes 30

What a channel has to do is known: within the mask what it did, elsewhere nothing. So the generator is its own teacher. A
frozen copy renders a latent as it is and with one channel moved; the one that learns has to render the first as the copy
does, and the second as the copy does within the mask and as the first elsewhere. No photograph, encoder or adversary is asked,
and for each pixel it is known what is right. Encoder, affine layers and channel
scales stay, so latents and numbers keep their meaning.

All in float32: rounded to bfloat16, two renders differ by 0.0008 of 2 everywhere, which is as much as a gaze channel changes
in the mean of a picture; a share of change is then mostly a share of rounding.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.media.images import psnr_from_mse
from mien.nets.generator import Generator, Window
from mien.nets.stylegan2 import StyleGAN2Generator
from mien.packs.pack import Pack
from mien.personalize.gaze_augmentation import LARGEST
from mien.personalize.muon import Muon
from mien.train.autoencoder.model_losses import GAZE_VALUES
from mien.train.common import Run, plot_losses
from mien.train.dataset import Faces
from mien.train.expression import ATTRIBUTES, EXPRESSION, attribute_masks, expression_channels, swap_channels
from mien.train.losses import pixel_loss, sum_of
from mien.train.parallel import Workers

TURNS = (15.0, 8.0)  # degrees of yaw and pitch that half of the latents are turned by, standard deviations
WELL = 0.1  # share outside the mask at which a channel is drawn least


class Confiner:
    """Steps of this training. `latents [N, L, D]` of pictures, their `poses [N, 2]` (degrees), `frames`: those of clips, whose
    expressions are taken."""

    def __init__(self, pack: Pack, latents: Tensor, poses: Tensor, frames: Tensor, seed: int) -> None:
        self.pack, self.teacher = pack, pack.generator
        self.latents, self.poses, self.frames = latents, poses, frames
        assert isinstance(pack.generator, StyleGAN2Generator)
        self.generator = copy.deepcopy(pack.generator).requires_grad_(False)
        for name, parameter in self.generator.named_parameters():
            parameter.requires_grad_(name.endswith(("conv.weight", "bias")) and "affine" not in name)
        self.random = torch.Generator().manual_seed(seed)
        self.scales = [c.scale for c in pack.channels]
        self.outside = np.ones(len(self.scales))  # running means of the share outside
        self.drawn = np.zeros(len(self.scales))  # how often each was
        self.kept = 0.0  # PSNR (dB) of what nothing was moved in, against the teacher's, in the last step

    def parameters(self) -> list[nn.Parameter]:
        """What learns: convolutions and biases."""
        return [p for p in self.generator.parameters() if p.requires_grad]

    @torch.no_grad()
    def _draw(self, count: int) -> list[Tensor]:
        """Styles of `count` people, half of them turned, half of them with the channels of some clip frame."""
        rand = lambda *shape: torch.rand(*shape, generator=self.random)
        index = torch.randint(len(self.latents), (count,), generator=self.random)
        pose = self.poses[index]
        turned = torch.randn(count, 2, generator=self.random) * torch.tensor(TURNS) * (rand(count, 1) < 0.5)
        w = self.pack.flow(self.latents[index], pose, self.pack.flow.clamp(pose + turned))
        donor = self.frames[torch.randint(len(self.frames), (count,), generator=self.random)]
        taken = (rand(count, 1) < 0.5).expand(count, len(ATTRIBUTES))
        styles = swap_channels(self.teacher.styles(w), self.teacher.styles(self.latents[donor]), taken)
        # Clips hardly glance, and what gaze channels do together is more than what each does: half of the people look elsewhere.
        looks = (2 * rand(count, 2) - 1) * torch.tensor(LARGEST) * (rand(count, 1) < 0.5)
        for turn, (layer, column) in enumerate(x[:2] for x in expression_channels() if x[2] == "gaze"):
            styles[layer] = styles[layer].clone()
            styles[layer][:, column] += GAZE_VALUES[turn % 2] * looks[:, turn % 2]
        return styles

    def _window(self) -> Window:
        """A random quarter of the finished picture."""
        full, half = self.generator.resolution, self.generator.resolution // 2
        top, left = (2 * int(torch.randint((full - half) // 2 + 1, (), generator=self.random)) for _ in range(2))
        return Window(top, left, top + half, left + half)

    @contextmanager
    def _seen(self) -> Iterator[dict[int, Tensor]]:
        """What layers with expression channels are given while a picture is made, by layer."""
        maps: dict[int, Tensor] = {}
        keep = lambda layer: lambda _, given: maps.update({layer: given[0]})
        hooks = [self.generator.blocks[layer].register_forward_pre_hook(keep(layer)) for layer in EXPRESSION]
        try:
            yield maps
        finally:
            for hook in hooks:
                hook.remove()

    def _elsewhere(self, maps: dict[int, Tensor], masks: Tensor) -> Tensor:
        """The share of each expression channel's feature map outside its mask, mean over channels: what a channel scales."""
        shares = []
        for layer, index, attribute in expression_channels():
            size = maps[layer].shape[-1]
            mask = masks[:, ATTRIBUTES.index(attribute)]
            mask = F.adaptive_max_pool2d(mask[:, None], size)[:, 0] if size < mask.shape[-1] else mask
            height = maps[layer][:, index].float().abs()
            shares.append((height * (1 - mask)).sum((1, 2)) / height.sum((1, 2)).clamp_min(1e-6))
        return torch.stack(shares).mean()

    def losses(self, count: int) -> dict[str, Tensor]:
        """The weighted losses of one step on `count` pictures, each with one channel moved."""
        channels = expression_channels()
        chances = torch.from_numpy((self.outside - WELL).clip(0.02, 1))
        numbers = torch.multinomial(chances, count, replacement=True, generator=self.random).tolist()
        window = self._window()
        styles = self._draw(count)
        moved = [layer.clone() for layer in styles]
        for i, n in enumerate(numbers):
            layer, column, _ = channels[n]
            amount = self.scales[n] * float(torch.rand((), generator=self.random) * 2 + 1)
            moved[layer][i, column] += amount if torch.rand((), generator=self.random) < 0.5 else -amount
        both = [torch.cat([a, b]) for a, b in zip(styles, moved, strict=True)]
        with torch.no_grad():
            taught = self.teacher.synthesis_with_detail(both, window)
            label = self.pack.parser(taught[0][:count].clamp(-1, 1))[0].argmax(1)
        with self._seen() as maps:
            made = self.generator.synthesis_with_detail(both, window)
        columns = torch.tensor([ATTRIBUTES.index(channels[n][2]) for n in numbers])
        every = attribute_masks(label.repeat_interleave(2, 1).repeat_interleave(2, 2))
        masks = every[torch.arange(count), columns]
        at = lambda masks, size: F.interpolate(masks[:, None], (size, size), mode="bilinear")
        size = made[0].shape[-1]
        mask, eyes = at(masks, size), at(every[:, ATTRIBUTES.index("gaze")], size)
        within = mask, window.cut(at(masks, self.generator.resolution))
        losses: dict[str, Tensor] = {}
        for name, m, x, y in zip(("whole", "detail"), within, made, taught, strict=True):
            before, after = y.chunk(2)
            wanted = torch.cat([before, torch.lerp(before, after, m)])
            weight = torch.cat([torch.ones_like(m), 1 + 3 * m])
            losses[name] = 2.0 * pixel_loss(x, wanted, weight, 3)
        self.kept = float(psnr_from_mse((made[0].detach()[:count] - taught[0][:count]).square().mean(), peak=2))
        was, now = (y[count:] - y[:count] for y in (taught[0], made[0]))
        does = (was * mask).abs().mean((1, 2, 3))
        losses["edit"] = ((now - was * mask).abs().mean((1, 2, 3)) / does.clamp_min(float(does.mean()) / 10)).mean()
        apart = ((made[0] - taught[0])[:count].abs() * eyes).sum((1, 2, 3)) / (3 * eyes.sum((1, 2, 3))).clamp_min(1)
        losses["eyes"] = 4.0 * apart.mean()
        inside, elsewhere = ((now.detach() * m).abs().mean((1, 2, 3)) for m in (mask, 1 - mask))
        shares = elsewhere / (inside + elsewhere).clamp_min(1e-7)
        losses["maps"] = self._elsewhere({layer: x[:count] for layer, x in maps.items()}, every)
        for number, share in zip(numbers, shares.tolist(), strict=True):
            self.drawn[number] += 1
            self.outside[number] += max(0.05, 1 / self.drawn[number]) * (share - self.outside[number])
        return losses


@torch.no_grad()
def sheet(trainer: Confiner, generator: Generator, run: Run, name: str) -> None:
    """For one person, each channel moved by three of its scales: as the teacher has it, as it is now, and eight times what each
    changes."""
    count = len(trainer.scales)
    styles = trainer.teacher.styles(trainer.latents[:1])
    moved = [layer.repeat(count, 1) for layer in styles]
    for i, (layer, column, _) in enumerate(expression_channels()):
        moved[layer][i, column] += 3 * trainer.scales[i]
    rows = []
    for network in (trainer.teacher, generator):
        before, after = (network.synthesis_from_styles(s) for s in (styles, moved))
        rows += [after, 8 * (after - before).abs() - 1]
    run.sheet(name, [part for i in range(0, count, 8) for part in (row[i : i + 8] for row in rows)])


@torch.no_grad()
def latents_of(pack: Pack, faces: Faces, rank: int, workers: int) -> tuple[Tensor, Tensor, Tensor]:
    """W+ of the stills and clip frames for training (a worker's part of them), their poses, and which of them are frames."""
    index = np.concatenate([faces.stills, faces.clips])[rank::workers]
    w, poses = [], []
    for start in range(0, len(index), 64):
        part = index[start : start + 64]
        batch = faces.get(part, np.zeros(len(part), bool))
        w.append(pack.encoder(batch.image))
        poses.append(batch.pose)
    return torch.cat(w), torch.cat(poses), torch.from_numpy(np.flatnonzero(faces.group[index] >= 0))


def train(
    pack_path: Path, data: Path, out: Path, *, minutes: float, steps: int | None = None, batch: int = 8,
    rate: float = 5e-4, seed: int = 0,
) -> None:  # fmt: skip
    """Train for `minutes`, or for so many further `steps`, resuming from `out`, and write `pack.safetensors` there: the
    pack with the running average of its generator."""
    torch.manual_seed(seed)
    workers = Workers()
    pack = Pack.load(pack_path)
    trainer = Confiner(pack, *latents_of(pack, Faces(data, 128), workers.rank, workers.count), seed)
    generator, mean = trainer.generator, copy.deepcopy(trainer.generator)
    optimiser = Muon([{"params": trainer.parameters()}], (0.5, 0.99), momentum=0.9, share=0.25, fused=True)
    run = Run(out)
    step = 0
    if state := run.load():
        generator.load_state_dict(state["generator"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        trainer.outside, trainer.drawn = np.array(state["outside"]), np.array(state["drawn"])
        step = state["step"]
    trainer.random.manual_seed(seed + step + 7919 * workers.rank)
    first, began, since, sums = step, time.time(), step, dict[str, float]()
    start = workers.agree(began)

    def left() -> float:
        """The share of this run that is left, the same for all workers."""
        done = (step - first) / steps if steps else (workers.agree(time.time()) - start) / (60 * minutes)
        return 1 - done

    def save() -> None:
        if workers.rank == 0:
            run.save(generator=generator.state_dict(), mean=mean.state_dict(), optimiser=optimiser.state_dict(), step=step,
                     outside=trainer.outside.tolist(), drawn=trainer.drawn.tolist())  # fmt: skip

    def log() -> None:
        nonlocal began, since, sums
        count = step - since
        if workers.rank == 0 and count:
            within = float((trainer.outside <= 0.2).mean())
            means = {name: value / count for name, value in sums.items()}
            run.log(step, **means, share=trainer.outside.mean(), worst=trainer.outside.max(), within=within,
                    steps_s=count / (time.time() - began))  # fmt: skip
        began, since, sums = time.time(), step, {}

    while (share := left()) > 0:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step - first + 1) / 30, 2 * share + 0.05)
        losses = trainer.losses(batch)
        optimiser.zero_grad(set_to_none=True)
        sum_of(losses.values()).backward()
        workers.average(trainer.parameters())
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_([*mean.parameters()], [*generator.parameters()], max(0.01, 20 / (step + 21)))
        step += 1
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        sums["kept"] = sums.get("kept", 0.0) + trainer.kept
        if step % 50 == 0:
            log()
        if step % 200 == 0:
            save()
    save()
    log()
    if workers.rank == 0:
        finished = replace(pack, networks={**pack.networks, "generator": mean.eval().requires_grad_(False)})
        finished.save(out / "pack.safetensors")
        sheet(trainer, mean, run, f"sheet_{step:06d}")
        plot_losses(out)
