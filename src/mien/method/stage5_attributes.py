"""Stage 5: 32 StyleSpace channels a frame (the paper, Sec. 3.4, Eq. 3 and 7-12, Algorithm 1).

    min over alpha_t of  L( G_ss(A(LH_t) + alpha_t on V),  S_t )

The warm start reads alpha_t off A(L_t) on the channels V, which takes the place of Eq. 7's start from frame t-1 (that
start is kept for frames whose face was out of sight). The step is Gauss-Newton's (`mien.method.gauss_newton`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mien.face.masks import Masks
from mien.method.gauss_newton import DescentOptions, Render, descend
from mien.method.image_sequences import ImageSequence
from mien.method.landmark_targets import Reading
from mien.method.losses import LossNetworks
from mien.method.types import Attributes
from mien.nets.generator import Generator
from mien.nets.stylespace import Channel, add_channels, read_channels

_OPTIONS = DescentOptions()


def warm_start(generator: Generator, w_plus: Tensor, posed: Tensor, channels: Sequence[Channel]) -> Tensor:
    """alpha_t read off A(L_t) - A(LH_t) on the channels V: `w_plus`, `posed` `[T, L, D]` -> `[T, 32]`."""
    with torch.no_grad():
        wanted = read_channels(generator.styles(w_plus), channels)
        return wanted - read_channels(generator.styles(posed), channels)


def fit_attributes(
    generator: Generator,
    networks: LossNetworks,
    channels: Sequence[Channel],
    posed: Tensor,
    targets: ImageSequence,
    regions: Masks,
    start: Tensor,
    blink: Tensor,
    identity_image: Tensor,
    options: DescentOptions = _OPTIONS,
    tick: Callable[[int], None] = lambda n: None,
    reading: Reading | None = None,
) -> Attributes:
    """Eq. 3 for all frames.

    `posed [T, L, D]`: LH_t; `targets [T, 3, R, R]`: S_t; `start [T, 32]`: warm start; `blink [T]` bool: frames whose
    gaze channels are left alone (their values go straight across the blink); `identity_image [1, 3, R, R]`: the
    identity frame, for L_ID; `reading`: what expressions measure (`mien.method.landmark_targets`; of the head's measures it
    must know nothing, which channels would imitate), None to compare pictures only. Bounded and damped: a frame that
    cannot be explained (a hand before the mouth) ends near its start, not far away.
    """
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=posed.device)
    gaze = torch.tensor([c.attribute == "gaze" for c in channels], device=posed.device)
    start = _across_blinks(start, blink, gaze)
    with torch.no_grad():
        code = networks.identity(identity_image) if networks.identity is not None else None
    units = (start / scale).clamp(-options.limit, options.limit)

    def renders(part: slice, resolution: int) -> Render:
        styles = generator.styles(posed[part])

        def render(now: Tensor, ids: Tensor | slice) -> Tensor:
            moved = add_channels([s[ids] for s in styles], channels, now * scale)
            return generator.picture(moved, resolution)

        return render

    solved = descend(generator, networks, renders, units, torch.zeros_like(units), targets, regions,
                     blink[:, None] & gaze[None], code, reading, options, tick)  # fmt: skip
    return Attributes((solved.value * scale).half().float(), solved.loss, solved.initial_loss)


def _across_blinks(alpha: Tensor, blink: Tensor, gaze: Tensor) -> Tensor:
    """Gaze values interpolated over blinking frames from the open-eyed frames around them."""
    open_eyed = torch.nonzero(~blink)[:, 0]
    if len(open_eyed) == 0 or len(open_eyed) == len(blink):
        return alpha.clone()
    out = alpha.clone()
    for i in torch.nonzero(blink)[:, 0].tolist():
        after = open_eyed[open_eyed > i]
        earlier = open_eyed[open_eyed < i]
        lo = int(earlier[-1]) if len(earlier) else int(after[0])
        hi = int(after[0]) if len(after) else lo
        share = 0.0 if hi == lo else (i - lo) / (hi - lo)
        out[i, gaze] = (1 - share) * alpha[lo, gaze] + share * alpha[hi, gaze]
    return out
