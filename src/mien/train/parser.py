"""Train the face parser on labels from the face mesh: cross entropy and landmark L1.

python -m mien.train parser --data runs/data -o runs/parser
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mien.face.measures import expression_measures, pose_measures
from mien.nets.face_parser import FaceParser
from mien.runtime.memory_format import channels_last
from mien.runtime.precision import autocast_bf16
from mien.train.common import Run, plot_losses
from mien.train.dataset import Faces, colour_jitter


def train(data: Path, out: Path, *, minutes: float, batch: int = 32, seed: int = 0, rate: float = 2e-3) -> None:
    """Train for `minutes`, resuming from `out`; writes `checkpoint.pt` there."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    faces = Faces(data, 128, seed)
    run = Run(out)
    parser = channels_last(FaceParser())
    optimiser = torch.optim.Adam(parser.parameters(), lr=rate, betas=(0.9, 0.99))
    step = 0
    if state := run.load():
        parser.load_state_dict(state["parser"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    weight = torch.tensor([0.5, 0.5, 1.5, 2.0, 2.0, 0.7, 1.5, 2.0])
    end = time.time() + minutes * 60
    began = time.time()
    while time.time() < end:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, 3.0 * (end - time.time()) / (60 * minutes) + 0.02)
        b = faces.batch(batch // 2, batch // 2)
        image = colour_jitter([b.image], random, 0.3)[0]
        # Renders are softer than photographs: blur some of the batch so that the features fit both.
        soft = F.interpolate(F.interpolate(image, (64, 64), mode="area"), (128, 128), mode="bilinear")
        image = torch.where(torch.rand(batch, 1, 1, 1, generator=random) < 0.3, soft, image)
        image = image + 0.03 * torch.randn(image.shape, generator=random) * torch.rand(batch, 1, 1, 1, generator=random)
        with autocast_bf16(torch.device("cpu")):
            logits, points = parser(image.contiguous(memory_format=torch.channels_last))
        cross = F.cross_entropy(logits.float(), b.label[:, ::2, ::2], weight=weight)
        apart = (points - b.points).abs().mean()
        shape = (expression_measures(points) - expression_measures(b.points)).abs().mean()
        pose = (pose_measures(points) - pose_measures(b.points)).abs().mean()
        loss = cross + 20 * apart + 2 * shape + pose
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 100 == 0:
            run.log(
                step, cross=cross, landmark_px=apart * 256, measure=shape, images_s=100 * batch / (time.time() - began)
            )
            began = time.time()
            run.save(parser=parser.state_dict(), optimiser=optimiser.state_dict(), step=step)
    run.save(parser=parser.state_dict(), optimiser=optimiser.state_dict(), step=step)
    shown = np.r_[faces.held_out[:6], faces.clip_of[0][::60][:6]]
    b = faces.get(shown, np.zeros(len(shown), bool))
    with torch.no_grad():
        logits, points = parser(b.image)
    palette = torch.linspace(-1, 1, 8)[logits.argmax(1)][:, None].expand(-1, 3, -1, -1)
    drawn = b.image.clone()
    for i, shape_points in enumerate((points * 128).long().clamp(0, 127)):
        drawn[i, :, shape_points[:, 1], shape_points[:, 0]] = torch.tensor([-1.0, 1.0, -1.0])[:, None]
    run.contact_sheet("parse", [drawn, palette])
    plot_losses(out)
