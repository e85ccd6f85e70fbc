"""Fine-tune the locality of a pack's 32 channels by self-distillation: each changes its attribute's mask alone.

    python -m mien.train channel-locality --pack PACK --data runs/data -o runs/local --minutes 30

A frozen copy of the generator, the teacher, renders a latent as it is and with one channel moved. The student has to
render the first as the teacher does, and the second as the teacher does within the channel's mask and as the first
elsewhere. So every pixel has a target, without photographs, encoder or adversary. Encoder, affine layers and channel
scales stay, so latents and numbers keep their meaning.

All in float32: bfloat16 rounds by as much as a gaze channel changes the mean of an image.
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

from mien.errors import InputError
from mien.face.gaze_warp import LARGEST
from mien.media.images import psnr_from_mse
from mien.nets.generator import Generator, Window
from mien.nets.stylegan2 import StyleGAN2Generator
from mien.packs.pack import Pack
from mien.personalize.muon import Muon
from mien.train.autoencoder.model_losses import GAZE_VALUES
from mien.train.common import Run, plot_losses
from mien.train.dataset import Faces
from mien.train.expression import ATTRIBUTES, EXPRESSION, attribute_masks, expression_channels, swap_channels
from mien.train.losses import pixel_loss, sum_of
from mien.train.parallel import Workers

TURNS = (15.0, 8.0)  # degrees of yaw and pitch that half of the latents are turned by, standard deviations
LOCAL = 0.1  # share of change outside the mask at which a channel is drawn least


class LocalityTrainer:
    """Losses of one step.

    `latents [N, L, D]` of images with `poses [N, 2]` in degrees; `frames`: indices of clip frames, which lend
    expressions. `leak_estimate [32]`: running mean of each channel's share of change outside its mask; `drawn [32]`:
    how often each was drawn; `unmoved_psnr`: PSNR in dB of the student's unmoved renders against the teacher's, in the
    last step.
    """

    def __init__(self, pack: Pack, latents: Tensor, poses: Tensor, frames: Tensor, seed: int) -> None:
        self.pack, self.teacher = pack, pack.generator
        self.latents, self.poses, self.frames = latents, poses, frames
        if [(c.layer, c.index, c.attribute) for c in pack.channels] != list(expression_channels()):
            raise InputError(
                f"the channels of {pack.name} were found and not assigned: these are fitted to what they do."
            )
        assert isinstance(pack.generator, StyleGAN2Generator)
        self.generator = copy.deepcopy(pack.generator).requires_grad_(False)
        for name, parameter in self.generator.named_parameters():
            parameter.requires_grad_(name.endswith(("conv.weight", "bias")) and "affine" not in name)
        self.random = torch.Generator().manual_seed(seed)
        self.scales = [c.scale for c in pack.channels]
        self.leak_estimate = np.ones(len(self.scales))
        self.drawn = np.zeros(len(self.scales))
        self.unmoved_psnr = 0.0

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained: convolutions and biases."""
        return [p for p in self.generator.parameters() if p.requires_grad]

    @torch.no_grad()
    def _sample_styles(self, count: int) -> list[Tensor]:
        """Styles of `count` people, half of them turned, half of them with the channels of some clip frame."""
        rand = lambda *shape: torch.rand(*shape, generator=self.random)
        index = torch.randint(len(self.latents), (count,), generator=self.random)
        pose = self.poses[index]
        turned = torch.randn(count, 2, generator=self.random) * torch.tensor(TURNS) * (rand(count, 1) < 0.5)
        w = self.pack.flow(self.latents[index], pose, self.pack.flow.clamp(pose + turned))
        donor = self.frames[torch.randint(len(self.frames), (count,), generator=self.random)]
        taken = (rand(count, 1) < 0.5).expand(count, len(ATTRIBUTES))
        styles = swap_channels(self.teacher.styles(w), self.teacher.styles(self.latents[donor]), taken)
        # Gaze channels act together, and clips show little gaze: half of the people get a random one.
        offsets = (2 * rand(count, 2) - 1) * torch.tensor(LARGEST) * (rand(count, 1) < 0.5)
        for turn, (layer, column) in enumerate(x[:2] for x in expression_channels() if x[2] == "gaze"):
            styles[layer] = styles[layer].clone()
            styles[layer][:, column] += GAZE_VALUES[turn % 2] * offsets[:, turn % 2]
        return styles

    def _window(self) -> Window:
        """A random quarter of the image at full resolution."""
        full, half = self.generator.resolution, self.generator.resolution // 2
        top, left = (2 * int(torch.randint((full - half) // 2 + 1, (), generator=self.random)) for _ in range(2))
        return Window(top, left, top + half, left + half)

    @contextmanager
    def _recorded_inputs(self) -> Iterator[dict[int, Tensor]]:
        """Inputs of the layers with expression channels, by layer, of the synthesis that runs within the block."""
        maps: dict[int, Tensor] = {}
        keep = lambda layer: lambda _, given: maps.update({layer: given[0]})
        hooks = [self.generator.blocks[layer].register_forward_pre_hook(keep(layer)) for layer in EXPRESSION]
        try:
            yield maps
        finally:
            for hook in hooks:
                hook.remove()

    def _map_leak(self, maps: dict[int, Tensor], masks: Tensor) -> Tensor:
        """Share of an expression channel's feature map, which the channel scales, outside its mask; mean over channels."""
        shares = []
        for layer, index, attribute in expression_channels():
            size = maps[layer].shape[-1]
            mask = masks[:, ATTRIBUTES.index(attribute)]
            mask = F.adaptive_max_pool2d(mask[:, None], size)[:, 0] if size < mask.shape[-1] else mask
            height = maps[layer][:, index].float().abs()
            shares.append((height * (1 - mask)).sum((1, 2)) / height.sum((1, 2)).clamp_min(1e-6))
        return torch.stack(shares).mean()

    def losses(self, count: int) -> dict[str, Tensor]:
        """The weighted losses of one step on `count` images, each with one channel moved."""
        channels = expression_channels()
        chances = torch.from_numpy((self.leak_estimate - LOCAL).clip(0.02, 1))
        numbers = torch.multinomial(chances, count, replacement=True, generator=self.random).tolist()
        window = self._window()
        styles = self._sample_styles(count)
        moved = [layer.clone() for layer in styles]
        for i, n in enumerate(numbers):
            layer, column, _ = channels[n]
            amount = self.scales[n] * float(torch.rand((), generator=self.random) * 2 + 1)
            moved[layer][i, column] += amount if torch.rand((), generator=self.random) < 0.5 else -amount
        both = [torch.cat([a, b]) for a, b in zip(styles, moved, strict=True)]
        with torch.no_grad():
            target = self.teacher.synthesis_with_detail(both, window)
            label = self.pack.parser(target[0][:count].clamp(-1, 1))[0].argmax(1)
        with self._recorded_inputs() as maps:
            rendered = self.generator.synthesis_with_detail(both, window)
        columns = torch.tensor([ATTRIBUTES.index(channels[n][2]) for n in numbers])
        every = attribute_masks(label.repeat_interleave(2, 1).repeat_interleave(2, 2))
        masks = every[torch.arange(count), columns]
        at = lambda masks, size: F.interpolate(masks[:, None], (size, size), mode="bilinear")
        size = rendered[0].shape[-1]
        mask, eyes = at(masks, size), at(every[:, ATTRIBUTES.index("gaze")], size)
        within = mask, window.cut(at(masks, self.generator.resolution))
        losses: dict[str, Tensor] = {}
        for name, m, x, y in zip(("whole", "detail"), within, rendered, target, strict=True):
            before, after = y.chunk(2)
            goal = torch.cat([before, torch.lerp(before, after, m)])
            weight = torch.cat([torch.ones_like(m), 1 + 3 * m])
            losses[name] = 2.0 * pixel_loss(x, goal, weight, 3)
        self.unmoved_psnr = float(
            psnr_from_mse((rendered[0].detach()[:count] - target[0][:count]).square().mean(), peak=2)
        )
        was, now = (y[count:] - y[:count] for y in (target[0], rendered[0]))
        does = (was * mask).abs().mean((1, 2, 3))
        losses["edit"] = ((now - was * mask).abs().mean((1, 2, 3)) / does.clamp_min(float(does.mean()) / 10)).mean()
        apart = ((rendered[0] - target[0])[:count].abs() * eyes).sum((1, 2, 3)) / (3 * eyes.sum((1, 2, 3))).clamp_min(1)
        losses["eyes"] = 4.0 * apart.mean()
        inside, elsewhere = ((now.detach() * m).abs().mean((1, 2, 3)) for m in (mask, 1 - mask))
        shares = elsewhere / (inside + elsewhere).clamp_min(1e-7)
        losses["maps"] = self._map_leak({layer: x[:count] for layer, x in maps.items()}, every)
        for number, share in zip(numbers, shares.tolist(), strict=True):
            self.drawn[number] += 1
            self.leak_estimate[number] += max(0.05, 1 / self.drawn[number]) * (share - self.leak_estimate[number])
        return losses


@torch.no_grad()
def contact_sheet(trainer: LocalityTrainer, generator: Generator, run: Run, name: str) -> None:
    """Write one person with each channel moved by three of its scales, of teacher and student, and 8 times the change."""
    count = len(trainer.scales)
    styles = trainer.teacher.styles(trainer.latents[:1])
    moved = [layer.repeat(count, 1) for layer in styles]
    for i, (layer, column, _) in enumerate(expression_channels()):
        moved[layer][i, column] += 3 * trainer.scales[i]
    rows = []
    for network in (trainer.teacher, generator):
        before, after = (network.synthesis_from_styles(s) for s in (styles, moved))
        rows += [after, 8 * (after - before).abs() - 1]
    run.contact_sheet(name, [part for i in range(0, count, 8) for part in (row[i : i + 8] for row in rows)])


@torch.no_grad()
def latents_of(pack: Pack, faces: Faces, rank: int, workers: int) -> tuple[Tensor, Tensor, Tensor]:
    """W+ `[N, L, D]` of a worker's part of stills and clip frames, poses `[N, 2]`, and the indices of clip frames."""
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
    trainer = LocalityTrainer(pack, *latents_of(pack, Faces(data, 128), workers.rank, workers.count), seed)
    generator, mean = trainer.generator, copy.deepcopy(trainer.generator)
    optimiser = Muon([{"params": trainer.parameters()}], (0.5, 0.99), momentum=0.9, share=0.25, fused=True)
    run = Run(out)
    step = 0
    if state := run.load():
        generator.load_state_dict(state["generator"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        trainer.leak_estimate, trainer.drawn = np.array(state["leak_estimate"]), np.array(state["drawn"])
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
            run.save(generator=generator.state_dict(), mean=mean.state_dict(), optimiser=optimiser.state_dict(),
                     step=step, leak_estimate=trainer.leak_estimate.tolist(), drawn=trainer.drawn.tolist())  # fmt: skip

    def log() -> None:
        nonlocal began, since, sums
        count = step - since
        if workers.rank == 0 and count:
            within = float((trainer.leak_estimate <= 0.2).mean())
            means = {name: value / count for name, value in sums.items()}
            run.log(step, **means, share=trainer.leak_estimate.mean(), worst=trainer.leak_estimate.max(), within=within,
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
        sums["unmoved_psnr"] = sums.get("unmoved_psnr", 0.0) + trainer.unmoved_psnr
        if step % 50 == 0:
            log()
        if step % 200 == 0:
            save()
    save()
    log()
    if workers.rank == 0:
        finished = replace(pack, networks={**pack.networks, "generator": mean.eval().requires_grad_(False)})
        finished.save(out / "pack.safetensors")
        contact_sheet(trainer, mean, run, f"sheet_{step:06d}")
        plot_losses(out)
