"""The official encoders into W+: e4e (Tov et al. 2021) and ReStyle over e4e (Alaluf et al. 2021), on IR-SE50.

Both write a base code and one offset a row. e4e reads the rows from a feature pyramid; ReStyle's encoder reads all of
them from the last feature map, but looks at the image beside the last render of it, and is asked several times.
Parameter names are those of the official checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets import irse
from mien.nets.generator import Generator
from mien.nets.stylegan2 import Affine

INPUT_SIZE = 256
RESTYLE_STEPS = 5
_MIDDLE, _FINE = 3, 7  # the first rows that read the middle and the fine level of the pyramid


class StyleHead(nn.Module):
    """A feature map `[N, width, side, side]` to one row of W+, `[N, width]`: strided convolutions down to one pixel."""

    def __init__(self, side: int, width: int = 512) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(side))):
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = Affine(width, width, bias=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def to_input(image: Tensor) -> Tensor:
    """Square images `[N, 3, H, W]` of any size -> `[N, 3, 256, 256]`, averaging where they are larger."""
    if image.shape[-1] > INPUT_SIZE:
        return F.adaptive_avg_pool2d(image, INPUT_SIZE)
    if image.shape[-1] < INPUT_SIZE:
        return F.interpolate(image, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
    return image


class E4E(nn.Module):
    """e4e: FFHQ-framed images `[N, 3, H, W]` in [-1, 1] -> `w_plus [N, num_ws, D]`.

    `units`: width and number of units of the trunk's four groups; the last width is D, 512 in the official checkpoint.
    """

    w_mean: Tensor

    def __init__(self, num_ws: int, units: irse.Units = irse.UNITS) -> None:
        super().__init__()
        self.num_ws, self.units = num_ws, units
        (stem, first), (fine, second), (middle, third), (w_dim, _) = units
        # The last units of the second and third group feed the fine and the middle level.
        self.fine_tap, self.middle_tap = first + second - 1, first + second + third - 1
        self.input_layer = irse.input_layer(3, stem)
        self.body = irse.body(units)
        sides = [16 if i < _MIDDLE else 32 if i < _FINE else 64 for i in range(num_ws)]
        self.styles = nn.ModuleList(StyleHead(side, w_dim) for side in sides)
        self.latlayer1 = nn.Conv2d(middle, w_dim, 1)
        self.latlayer2 = nn.Conv2d(fine, w_dim, 1)
        self.register_buffer("w_mean", torch.zeros(num_ws, w_dim))

    def forward(self, image: Tensor) -> Tensor:
        x = self.input_layer(to_input(image))
        taps: dict[int, Tensor] = {}
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in (self.middle_tap, self.fine_tap):
                taps[i] = x
        middle = _add_upsampled(x, self.latlayer1(taps[self.middle_tap]))
        fine = _add_upsampled(middle, self.latlayer2(taps[self.fine_tap]))
        base = self.styles[0](x)
        rows = [base]
        for i in range(1, self.num_ws):
            rows.append(base + self.styles[i](x if i < _MIDDLE else middle if i < _FINE else fine))
        return self.w_mean + torch.stack(rows, dim=1)


def _add_upsampled(coarse: Tensor, fine: Tensor) -> Tensor:
    return F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=True) + fine


class ReStyle(nn.Module):
    """ReStyle's encoder over e4e: an image and the render of the present latent -> what to add to the latent."""

    w_mean: Tensor
    average: Tensor

    def __init__(self, num_ws: int, units: irse.Units = irse.UNITS) -> None:
        super().__init__()
        self.num_ws, self.units = num_ws, units
        self.input_layer = irse.input_layer(6, units[0][0])
        self.body = irse.body(units)
        self.styles = nn.ModuleList(StyleHead(16) for _ in range(num_ws))
        self.register_buffer("w_mean", torch.zeros(num_ws, 512))
        # The render of w_mean, `[1, 3, 256, 256]`: where the loop starts.
        self.register_buffer("average", torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE))

    def step(self, image: Tensor, render: Tensor) -> Tensor:
        """Offsets `[N, num_ws, 512]` to the latents whose render, beside `image`, is `render` (256x256, [-1, 1])."""
        x = self.body(self.input_layer(torch.cat([image, render], dim=1)))
        base = self.styles[0](x)
        return torch.stack([base, *(base + style(x) for style in self.styles[1:])], dim=1)

    def forward(self, image: Tensor, synthesis: Callable[[Tensor], Tensor], steps: int = RESTYLE_STEPS) -> Tensor:
        """FFHQ-framed images `[N, 3, H, W]` in [-1, 1] -> `w_plus [N, num_ws, 512]`.

        `synthesis`: the generator, `w_plus -> [N, 3, H, W]`. It is called `steps - 1` times.
        """
        image = to_input(image)
        latent = self.w_mean.expand(len(image), -1, -1)
        render = self.average.expand(len(image), -1, -1, -1)
        for i in range(steps):
            latent = latent + self.step(image, render)
            if i < steps - 1:
                render = to_input(synthesis(latent))
        return latent


class ReStyleLoop(nn.Module):
    """ReStyle bound to a generator, with the one argument that an encoder has: images -> `w_plus`."""

    def __init__(self, encoder: ReStyle, generator: Generator, steps: int = RESTYLE_STEPS) -> None:
        super().__init__()
        self.encoder, self.generator, self.steps = encoder, generator, steps

    def forward(self, image: Tensor) -> Tensor:
        return self.encoder(image, self._synthesis, self.steps)

    def _synthesis(self, w_plus: Tensor) -> Tensor:
        """Renders as the encoder takes them, as many at once as fit in memory."""
        at_once = self.generator.frames_at_once(len(w_plus), self.generator.resolution)
        return torch.cat([to_input(self.generator.synthesis(part)) for part in w_plus.split(at_once)])
