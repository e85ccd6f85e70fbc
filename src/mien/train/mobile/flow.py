"""Train the flow of `ffhq-mobile`: a conditional continuous normalising flow over W, by likelihood.

StyleFlow (Abdal et al. 2021): -log p(w | c) = -log N(z; 0, 1) - log |dz / dw|, where z is w carried through the
normalisations and the ODE, and the log determinant of the ODE is the integral of the trace of df/dw (Chen et al. 2018),
estimated with one random vector of signs a sample (Hutchinson; Grathwohl et al. 2019). RK4 with the steps that are used
afterwards, so that what is trained is what is run.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mien.nets.styleflow import FlowConfig, HeadPoseFlow, PoseCondition, StyleFlow
from mien.train.common import Run
from mien.train.mobile.samples import CONDITIONS, conditions, read, shards_of

POSE_ROWS = 7  # rows of W+ up to 16x16: those that turn the head (StyleGAN2's rows 0 to 3)
STEPS = 4  # of RK4 for one pass
LIMIT_DEG = 25.0


@dataclass(frozen=True)
class FlowTraining:
    """How the flow is trained: Adam at `rate`, falling along a cosine; `decay` pulls weights to zero (decoupled)."""

    steps: int = 3000
    batch: int = 160
    rate: float = 1e-3
    decay: float = 1e-3
    hidden: tuple[int, ...] = (512, 512, 512)
    seed: int = 0


def new_flow(w: Tensor, c: Tensor, hidden: tuple[int, ...]) -> HeadPoseFlow:
    """An untrained flow for rows `w [N, D]` and conditions `c [N, 6]`; it starts as the two normalisations."""
    scale = tuple(float(s) for s in c.std(0).clamp_min(1e-3))
    neutral = [0.0, 0.0, *c.median(0).values[2:].tolist()]
    flow = StyleFlow(FlowConfig(w.shape[1], hidden, len(CONDITIONS), STEPS, scale))
    with torch.no_grad():
        flow.norm_in.running_mean.copy_(w.mean(0))
        flow.norm_in.running_var.copy_(w.var(0))
        last = flow.layers[-1]
        for parameter in (last.layer.weight, last.layer.bias, last.shift.weight):  # type: ignore[union-attr]
            parameter.zero_()  # type: ignore[operator]
    return HeadPoseFlow(flow, PoseCondition(tuple(neutral), 0, 1, POSE_ROWS, -1, LIMIT_DEG))


def negative_log_likelihood(flow: StyleFlow, w: Tensor, condition: Tensor, signs: Tensor) -> Tensor:
    """-log p(w | c) `[N]` in nats, the trace estimated with `signs [N, D]` of +-1."""
    x = flow.norm_in(w)
    scale = flow.norm_in.weight - 0.5 * torch.log(flow.norm_in.running_var + flow.norm_in.EPSILON)
    scale = scale + flow.norm_out.weight - 0.5 * torch.log(flow.norm_out.running_var + flow.norm_out.EPSILON)
    c = condition / flow.condition_scale
    h = flow.sqrt_end_time**2 / flow.config.steps
    gain = torch.zeros(len(w))

    def slope(at: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        at = at.requires_grad_(True) if not at.requires_grad else at
        v = flow.velocity(t, at, c)
        (g,) = torch.autograd.grad(v, at, signs, create_graph=torch.is_grad_enabled(), retain_graph=True)
        return v, (g * signs).sum(1)

    for i in range(flow.config.steps):
        t = h * i
        k1, g1 = slope(x, t)
        k2, g2 = slope(torch.addcmul(x, h / 2, k1), t + h / 2)
        k3, g3 = slope(torch.addcmul(x, h / 2, k2), t + h / 2)
        k4, g4 = slope(torch.addcmul(x, h, k3), t + h)
        x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        gain = gain + h / 6 * (g1 + 2 * (g2 + g3) + g4)
    z = flow.norm_out(x)
    prior = -0.5 * z.square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
    return -(prior + gain + scale.sum())


def train(data: Path, out: Path, options: FlowTraining | None = None) -> HeadPoseFlow:
    """Train on the shards in `data` (the last is held out); resumes from `out` and leaves its log there. Raises InputError
    where there are fewer than two."""
    options = options or FlowTraining()
    parts = list(read(shards_of(data)))
    run = Run(out)
    w_all = [torch.from_numpy(p.w) for p in parts]
    c_all = [torch.from_numpy(conditions(p)) for p in parts]
    w, c, held_w, held_c = torch.cat(w_all[:-1]), torch.cat(c_all[:-1]), w_all[-1], c_all[-1]
    low, high = np.percentile(c.numpy(), [1, 99], axis=0)
    print({n: (round(float(a), 3), round(float(b), 3)) for n, a, b in zip(CONDITIONS, low, high, strict=True)}, len(w))
    torch.manual_seed(options.seed)
    flow = new_flow(w, c, options.hidden)
    trained = list(flow.parameters())
    optimiser = torch.optim.AdamW(trained, lr=options.rate, betas=(0.9, 0.99), weight_decay=options.decay)
    first = 0
    if (kept := run.load()) is not None:
        flow.load_state_dict(kept["flow"])
        optimiser.load_state_dict(kept["optimiser"])
        first = kept["step"]
    begin, losses = time.perf_counter(), []
    for step in range(first, options.steps):
        random = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        pick = torch.randint(len(w), (options.batch,), generator=random)
        signs = torch.randint(0, 2, (options.batch, w.shape[1]), generator=random) * 2.0 - 1
        for group in optimiser.param_groups:
            group["lr"] = (
                options.rate * min(1, step / 100) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / options.steps)))
            )
        loss = negative_log_likelihood(flow.flow, w[pick], c[pick], signs).mean() / w.shape[1]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0 or step + 1 == options.steps:
            held = _held_out(flow, held_w, held_c)
            run.save(
                flow=flow.state_dict(),
                neutral=flow.pose.neutral,
                condition_scale=flow.flow.config.condition_scale,
                optimiser=optimiser.state_dict(),
                step=step + 1,
            )
            run.log(step + 1, nats_a_number=np.mean(losses), held_out=held, rate=group["lr"], samples=len(w))
            losses = []
    print(f"{time.perf_counter() - begin:.0f} s")
    return flow.eval().requires_grad_(False)


def _held_out(flow: HeadPoseFlow, w: Tensor, c: Tensor) -> float:
    signs = torch.randint(0, 2, w.shape, generator=torch.Generator().manual_seed(1)) * 2.0 - 1
    return float(negative_log_likelihood(flow.flow, w, c, signs).mean().detach()) / w.shape[1]


def load_flow(run: Path, options: FlowTraining, width: int = 512) -> HeadPoseFlow:
    """The trained flow of a run's folder."""
    kept = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    flow = new_flow(torch.randn(2, width), torch.ones(2, len(CONDITIONS)), options.hidden)
    pose = PoseCondition(tuple(kept["neutral"]), 0, 1, POSE_ROWS, -1, LIMIT_DEG)
    config = dataclasses.replace(flow.flow.config, condition_scale=tuple(kept["condition_scale"]))
    made = HeadPoseFlow(StyleFlow(config), pose)
    made.load_state_dict(kept["flow"])
    return made.eval().requires_grad_(False)
