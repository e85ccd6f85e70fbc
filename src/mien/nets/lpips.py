"""LPIPS (Zhang et al. 2018), version 0.1: the learned perceptual distance, over VGG16 or AlexNet."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Backbone = Literal["vgg", "alex"]

# (width, kernel, stride, padding) of each convolution; a tuple of layers per tap, a pooling before all but the first.
_VGG = (
    ((64, 3, 1, 1),) * 2,
    ((128, 3, 1, 1),) * 2,
    ((256, 3, 1, 1),) * 3,
    ((512, 3, 1, 1),) * 3,
    ((512, 3, 1, 1),) * 3,
)
_ALEX = (((64, 11, 4, 2),), ((192, 5, 1, 2),), ((384, 3, 1, 1),), ((256, 3, 1, 1),), ((256, 3, 1, 1),))
_POOL = {"vgg": (nn.MaxPool2d(2, 2), (1, 2, 3, 4)), "alex": (nn.MaxPool2d(3, 2), (1, 2))}
WIDTHS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
LOSS_SIZE = 256
_EPSILON = 1e-10


class LPIPS(nn.Module):
    """Distance `[N]` between images `[N, 3, H, W]` in [-1, 1] (at least 64 pixels a side for AlexNet).

    `layers` has torchvision's indices, so that its backbones' convolutions load as they are; `lin` are the learned
    weights of the channels at the five taps.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        pool, pooled = _POOL[backbone]
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        width = 3
        for i, block in enumerate(_VGG if backbone == "vgg" else _ALEX):
            if i in pooled:
                layers.append(pool)
            for out_width, kernel, stride, padding in block:
                layers += [nn.Conv2d(width, out_width, kernel, stride, padding), nn.ReLU()]
                width = out_width
            self.taps.append(len(layers) - 1)
        self.layers = nn.Sequential(*layers)
        self.lin = nn.ParameterList(torch.ones(1, w, 1, 1) / w for w in WIDTHS[backbone])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def maps(self, image: Tensor) -> list[Tensor]:
        """The five feature maps of images `[N, 3, H, W]` in [-1, 1], normalised over their channels."""
        x = (image - self.shift) / self.scale
        found = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.taps:
                # Where no channel answers, the length is 0 and the slope of its root infinite: clamped, both are 0.
                length = x.square().sum(1, keepdim=True).clamp_min(_EPSILON**2).sqrt()
                found.append(x / (length + _EPSILON))
        return found

    def features(self, image: Tensor) -> list[Tensor]:
        """Maps `[N, C, h, w]` whose squared differences, summed over channels, averaged over pixels and added up,
        are the distance. Images larger than 256 pixels are averaged down first, as encoders' losses do."""
        if image.shape[-1] > LOSS_SIZE:
            image = F.interpolate(image, (LOSS_SIZE, LOSS_SIZE), mode="area")
        return [x * weight.clamp_min(0).sqrt() for x, weight in zip(self.maps(image), self.lin, strict=True)]

    def compare(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distance `[N]` between two results of `maps`."""
        levels = [((x - y).square() * weight).sum(1).mean((1, 2)) for x, y, weight in zip(a, b, self.lin, strict=True)]
        return torch.stack(levels).sum(0)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.compare(self.maps(a), self.maps(b))
