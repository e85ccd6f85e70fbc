"""Train the identity network as a classifier of the people of the data (additive angular margin, Deng et al. 2019).

    python -m mien.train identity --data runs/data -o runs/identity

A still face is a class of its own under changes of crop, light, sharpness and mirroring; a clip is one class over all
its poses and expressions, drawn more often, so that the embedding is invariant to them.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.identity_net import IdentityNet
from mien.runtime.memory_format import channels_last
from mien.runtime.precision import autocast_bf16
from mien.train.common import Run, plot_losses
from mien.train.dataset import Faces, colour_jitter


def jitter_crop(image: Tensor, random: torch.Generator) -> Tensor:
    """Random shift (6 %), zoom (12 %), rotation (6 degrees), blur and noise."""
    n = len(image)
    uniform = lambda *shape: torch.rand(*shape, generator=random) * 2 - 1
    angle, zoom, shift = uniform(n) * 0.1, 1 + 0.12 * uniform(n), 0.12 * uniform(n, 2)
    c, s = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack([torch.stack([c, -s, shift[:, 0]], 1), torch.stack([s, c, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
    soft = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2.0, mode="bilinear")
    image = torch.where(torch.rand(n, 1, 1, 1, generator=random) < 0.4, soft, image)
    return image + 0.04 * torch.randn(image.shape, generator=random)


def train(data: Path, out: Path, *, minutes: float, batch: int = 96, seed: int = 0, rate: float = 2e-3) -> None:
    """Train for `minutes`, resuming from `out`; logs the share of held-out faces recognised under other changes."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    faces = Faces(data, 64, seed)
    people = np.full(len(faces.group), -1)
    people[faces.stills] = np.arange(len(faces.stills))
    people[faces.clips] = len(faces.stills) + faces.group[faces.clips]
    classes = int(people.max()) + 1
    net = channels_last(IdentityNet())
    centres = nn.Parameter(0.1 * torch.randn(classes, 128))
    optimiser = torch.optim.AdamW([*net.parameters(), centres], lr=rate, weight_decay=1e-4)
    run = Run(out)
    step = 0
    if state := run.load():
        net.load_state_dict(state["identity"])
        with torch.no_grad():
            centres.copy_(state["centres"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    end, began = time.time() + 60 * minutes, time.time()
    while time.time() < end:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (end - time.time()) / (60 * minutes) * 2 + 0.02)
        b = faces.batch(batch * 2 // 3, batch - batch * 2 // 3)
        target = torch.from_numpy(people[b.index.numpy()])
        image = jitter_crop(colour_jitter([b.image], random, 0.35)[0], random)
        with autocast_bf16(torch.device("cpu")):
            code = net(image.contiguous(memory_format=torch.channels_last))
        cosine = code @ F.normalize(centres, dim=1).T
        margin = 0.2 * min(1.0, step / 500)
        angle = torch.acos(cosine.gather(1, target[:, None]).clamp(-0.999, 0.999)) + margin
        loss = F.cross_entropy(24 * cosine.scatter(1, target[:, None], torch.cos(angle)), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        if step % 100 == 0:
            with torch.no_grad():
                some = faces.held_out[:200]
                held = faces.get(some, np.zeros(len(some), bool)).image
                a, c = (net(jitter_crop(colour_jitter([held], random, 0.3)[0], random)) for _ in range(2))
                right = ((a @ c.T).argmax(1) == torch.arange(len(some))).float().mean()
            run.log(step, loss=loss, held_out=right, images_s=100 * batch / (time.time() - began))
            began = time.time()
            run.save(identity=net.state_dict(), centres=centres.detach(), optimiser=optimiser.state_dict(), step=step)
    run.save(identity=net.state_dict(), centres=centres.detach(), optimiser=optimiser.state_dict(), step=step)
    plot_losses(out)
