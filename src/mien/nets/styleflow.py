"""StyleFlow (Abdal et al. 2021): a conditional continuous normalising flow over rows of W+, and head pose through it.

An ODE dw/dt = f(w, t, condition) between two normalisations. To change an attribute, a row is carried to the prior
under its present condition and back under the wished one (the paper's G_sf, Sec. 3.3).

The ODE is integrated with fixed-step RK4 and without the log-density state: the result is a function of the latent and
the condition only, not of the batch or of random numbers, so that a renderer elsewhere gets the same latent. Always in
float32, also where a fit runs under autocast.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import cast

import torch
from torch import Tensor, nn

from mien.nets.flow_integral import PreparedFlow, integrate, usable


@dataclass(frozen=True)
class FlowConfig:
    """Shape of a flow. `steps`: RK4 steps for one pass. `condition_scale`: what the conditions are divided by."""

    dim: int
    hidden: tuple[int, ...]
    condition: int
    steps: int = 8
    condition_scale: tuple[float, ...] = ()


class ConcatSquash(nn.Module):
    """y = (W x + b) * sigmoid(G c + g) + H c with c = [t, condition]."""

    def __init__(self, in_dim: int, out_dim: int, condition: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_dim, out_dim)
        self.gate = nn.Linear(condition + 1, out_dim)
        self.shift = nn.Linear(condition + 1, out_dim, bias=False)

    def gates_and_shifts(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """What the time and the condition `c [..., 1 + condition]` do to it: gate and shift, `[..., out_dim]`."""
        return torch.sigmoid(self.gate(c)), self.shift(c)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        gate, shift = self.gates_and_shifts(c)
        return self.layer(x) * gate + shift


class MovingBatchNorm(nn.Module):
    """The fixed, invertible normalisation at either end of the flow (running statistics, as in evaluation)."""

    running_mean: Tensor
    running_var: Tensor
    EPSILON = 1e-4

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(self.running_var + self.EPSILON) * self.weight.exp()
        return (x - self.running_mean) * scale + self.bias

    def inverse(self, y: Tensor) -> Tensor:
        scale = torch.sqrt(self.running_var + self.EPSILON) * (-self.weight).exp()
        return (y - self.bias) * scale + self.running_mean


class StyleFlow(nn.Module):
    """The conditional flow: rows `[N, dim]`, conditions `[N, condition]` in their natural units."""

    condition_scale: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.dim, *config.hidden, config.dim)
        self.norm_in = MovingBatchNorm(config.dim)
        self.layers = nn.ModuleList(ConcatSquash(a, b, config.condition) for a, b in pairwise(widths))
        self.norm_out = MovingBatchNorm(config.dim)
        self.sqrt_end_time = nn.Parameter(torch.ones(()))
        scale = config.condition_scale or (1.0,) * config.condition
        self.register_buffer("condition_scale", torch.tensor(scale), persistent=False)
        self._compiled: tuple[list[tuple[int, int]], PreparedFlow] | None = None

    def velocity(self, t: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        """dw/dt at time `t` (a scalar), `[N, dim]`; `condition [N, condition]` is divided by its scale already."""
        c = torch.cat([t.expand(len(x), 1), condition], dim=1)
        return self._velocity(x, [layer.gates_and_shifts(c) for layer in self._squashes])

    @property
    def _squashes(self) -> list[ConcatSquash]:
        return [cast(ConcatSquash, layer) for layer in self.layers]

    def _prepared(self, weights: list[Tensor]) -> PreparedFlow:
        """The layers as compiled functions read them, made once for weights that stay."""
        now = [(w.data_ptr(), w._version) for w in weights]
        if self._compiled is None or self._compiled[0] != now:
            self._compiled = now, PreparedFlow.of(weights, [layer.layer.bias for layer in self._squashes])
        return self._compiled[1]

    def _velocity(self, x: Tensor, gates_and_shifts: list[tuple[Tensor, Tensor]]) -> Tensor:
        for i, (layer, (gate, shift)) in enumerate(zip(self._squashes, gates_and_shifts, strict=True)):
            x = torch.addcmul(shift, layer.layer(x), gate)
            if i < len(self.layers) - 1:
                x = torch.tanh(x)
        return x

    def _integrate(self, x: Tensor, condition: Tensor, *, reverse: bool) -> Tensor:
        condition = condition / self.condition_scale
        steps, end = self.config.steps, self.sqrt_end_time**2
        h = end / steps * (-1 if reverse else 1)
        # RK4 looks at times half a step apart. Gates and shifts know nothing of x, so they are made for all at once.
        times = (end if reverse else torch.zeros_like(end)) + h / 2 * torch.arange(
            2 * steps + 1, dtype=x.dtype, device=x.device
        )
        c = torch.cat([times[:, None, None].expand(-1, len(x), 1), condition.expand(len(times), -1, -1)], dim=2)
        made = [layer.gates_and_shifts(c) for layer in self._squashes]
        weights = [layer.layer.weight for layer in self._squashes]
        if usable(x, weights, flat := list(chain.from_iterable(made))):
            return integrate(x, self._prepared(weights), flat, float(h))
        by_time = [[part.unbind() for part in pair] for pair in made]
        at = lambda i: [(gates[i], shifts[i]) for gates, shifts in by_time]
        for i in range(0, 2 * steps, 2):
            k1 = self._velocity(x, at(i))
            k2 = self._velocity(torch.addcmul(x, h / 2, k1), at(i + 1))
            k3 = self._velocity(torch.addcmul(x, h / 2, k2), at(i + 1))
            k4 = self._velocity(torch.addcmul(x, h, k3), at(i + 2))
            x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        return x

    def to_prior(self, w: Tensor, condition: Tensor) -> Tensor:
        """Rows of W+ `[N, dim]` under their condition -> prior `[N, dim]`."""
        with torch.autocast(w.device.type, enabled=False):
            return self.norm_out(self._integrate(self.norm_in(w), condition, reverse=False))

    def from_prior(self, z: Tensor, condition: Tensor) -> Tensor:
        """Prior `[N, dim]` -> rows of W+ under the wished condition `[N, dim]`."""
        with torch.autocast(z.device.type, enabled=False):
            return self.norm_in.inverse(self._integrate(self.norm_out.inverse(z), condition, reverse=True))


@dataclass(frozen=True)
class PoseCondition:
    """How yaw and pitch enter a flow's condition.

    `neutral`: the condition with yaw = pitch = 0; `yaw`, `pitch`: their places in it; `rows`: how many rows of W+,
    from the first, head pose may change (4 of 18 in the official flow); `row_code`: place of a one-hot code of the
    row, or -1 where all rows share one function, as in the official flow; `limit`: largest angle in degrees that the
    flow was trained for.
    """

    neutral: tuple[float, ...]
    yaw: int
    pitch: int
    rows: int = 4
    row_code: int = -1
    limit: float = 25.0


class HeadPoseFlow(nn.Module):
    """G_sf's latent side: LH = flow(L_ID, yaw, pitch), changing only the rows that head pose may change."""

    neutral: Tensor

    def __init__(self, flow: StyleFlow, pose: PoseCondition) -> None:
        super().__init__()
        self.flow, self.pose = flow, pose
        self.register_buffer("neutral", torch.tensor(pose.neutral), persistent=False)

    def condition(self, angles: Tensor) -> Tensor:
        """`angles [N, 2]` (yaw, pitch in degrees) -> conditions `[N * rows, condition]`, row by row."""
        rows = self.pose.rows
        c = self.neutral.expand(len(angles), rows, -1).clone()
        c[:, :, self.pose.yaw] = angles[:, :1]
        c[:, :, self.pose.pitch] = angles[:, 1:]
        if self.pose.row_code >= 0:
            code = self.pose.row_code
            c[:, :, code : code + rows] = torch.eye(rows, dtype=c.dtype, device=c.device)
        return c.reshape(len(angles) * rows, -1)

    def prior(self, w_plus: Tensor, angles: Tensor) -> Tensor:
        """The pose-free code `[N, rows, dim]` of latents `[N, L, dim]` seen at `angles [N, 2]`."""
        rows = w_plus[:, : self.pose.rows]
        return self.flow.to_prior(rows.reshape(-1, rows.shape[-1]), self.condition(angles)).view(rows.shape)

    def with_pose(self, w_plus: Tensor, prior: Tensor, angles: Tensor) -> Tensor:
        """Latents `[N, L, dim]` with the first rows drawn from `prior [N, rows, dim]` at `angles [N, 2]`."""
        rows = self.flow.from_prior(prior.reshape(-1, prior.shape[-1]), self.condition(angles)).view(prior.shape)
        return torch.cat([rows, w_plus[:, self.pose.rows :]], dim=1)

    def forward(self, w_plus: Tensor, now: Tensor, wished: Tensor) -> Tensor:
        """Turn latents `[N, L, dim]` from angles `now [N, 2]` to `wished [N, 2]` (yaw, pitch in degrees)."""
        return self.with_pose(w_plus, self.prior(w_plus, now), wished)

    def clamp(self, angles: Tensor) -> Tensor:
        """Angles within what the flow was trained for."""
        return angles.clamp(-self.pose.limit, self.pose.limit)


def mini_flow(w_dim: int, rows: int = 4, hidden: tuple[int, ...] = (256, 256, 256), steps: int = 4) -> HeadPoseFlow:
    """The embedded pack's flow: condition = yaw/20, pitch/20 and a one-hot code of the row. Starts as the identity."""
    config = FlowConfig(w_dim, hidden, 2 + rows, steps, (20.0, 20.0, *([1.0] * rows)))
    flow = StyleFlow(config)
    last = cast(ConcatSquash, flow.layers[-1])
    for parameter in (last.layer.weight, last.layer.bias, last.shift.weight):
        nn.init.zeros_(parameter)
    return HeadPoseFlow(flow, PoseCondition((0.0,) * (2 + rows), 0, 1, rows, 2))
