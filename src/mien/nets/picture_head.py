"""Small pictures from the features of a MobileStyleGAN block: what the blocks that are left out would draw."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.generator import Window
from mien.nets.mobile_layers import (
    IMAGE_BANDS,
    MobileGeneratorConfig,
    band_order,
    inverse_haar,
    pointwise,
    separable,
)


class PictureHead(nn.Module):
    """A small picture from the features of block k: the remaining blocks, at block k's side.

    Each remaining block keeps its styles and its two convolutions. Where it would double the side, its first
    convolution takes all four Haar bands instead, each scaled by the block's `up` and `conv1` styles. The last layer
    writes Haar bands, so that the picture has twice the side of block k. Between blocks, channels are sorted by
    `band_order`: so are the rows of `weight` and `bias`.
    """

    def __init__(self, config: MobileGeneratorConfig, block: int) -> None:
        super().__init__()
        side = 8 * 2**block
        self.block, self.gains = block, []
        self.depthwise, self.weight, self.bias, self.noise_const = (nn.ParameterList() for _ in range(4))
        for k in range(block + 1, config.blocks):
            width, out = config.channels[k], config.channels[k + 1]
            for wide in (width, out):
                self.depthwise.append(torch.randn(wide, 1, 3, 3) / 3)
                self.weight.append(torch.randn(out, wide, 1, 1))
                self.bias.append(torch.zeros(out))
                self.noise_const.append(torch.zeros(side, side))
            self.gains += [1 / math.sqrt(9 * (width // 4)), 1 / math.sqrt(9 * out)]
        self.image_weight = nn.Parameter(torch.randn(IMAGE_BANDS, out, 1, 1))
        self.image_bias = nn.Parameter(torch.zeros(IMAGE_BANDS))
        self.image_gain = 1 / math.sqrt(out)

    def forward(self, x: Tensor, styles: list[Tensor], window: Window | None = None) -> Tensor:
        """`x [N, C, h, w]`, the features of block k sorted by `band_order`, and all styles -> `[N, 3, 2h, 2w]`.
        `window`: the part of block k's map that `x` is."""
        cut = (lambda noise: noise) if window is None else window.cut
        for i in range(0, len(self.gains), 2):
            layer = 1 + 3 * (self.block + 1 + i // 2)
            order = band_order(x.shape[1]).to(x.device)
            bands = styles[layer][:, order] * styles[layer + 1].repeat(1, 4)
            for j, style in ((i, bands), (i + 1, styles[layer + 2])):
                weight = self.weight[j][:, :, 0, 0]
                x = separable(
                    x, self.depthwise[j], weight, style * self.gains[j], self.bias[j], cut(self.noise_const[j])
                )
        weight = self.image_weight[:, :, 0, 0] * (styles[-1] * self.image_gain)[:, None]
        return inverse_haar(pointwise(x, weight, self.image_bias).float())

    @torch.no_grad()
    def start_from(self, blocks: nn.ModuleList) -> None:
        """Take over the weights of the blocks that the head stands for: means of what they do to finer pixels.

        A depthwise kernel becomes its sum in the middle; of the Haar bands the mean goes through, halved (a band's mean
        is twice the pixels'); noise is averaged down.
        """
        layers: list[Any] = list(blocks)
        for i in range(0, len(self.gains), 2):
            k = self.block + 1 + i // 2
            first, second = layers[2 + 3 * k], layers[3 + 3 * k]
            out = second.weight.shape[0]
            sort = band_order(out) if i + 2 < len(self.gains) else torch.arange(out)
            self.weight[i].zero_()
            self.weight[i][:, : first.weight.shape[1]] = first.weight * 0.5
            self.weight[i + 1].copy_(second.weight[sort])
            self.bias[i].copy_(first.bias)
            self.bias[i + 1].copy_(second.bias[sort])
            for j, layer in ((i, first), (i + 1, second)):
                taps = layer.depthwise.sum((2, 3))[:, 0]
                self.depthwise[j].zero_()
                self.depthwise[j][:, 0, 1, 1] = taps.repeat(len(self.depthwise[j]) // len(taps))
                side = len(self.noise_const[j])
                self.noise_const[j].copy_(F.interpolate(layer.noise_const[None, None], (side, side), mode="area")[0, 0])
        image = layers[-1]
        for mine, theirs in ((self.image_weight, image.weight), (self.image_bias, image.bias)):
            mine.zero_()
            mine[:3] = theirs[:3]  # the mean of three colours: twice the mean of the pixels, as the head's bands are


def picture_heads(config: MobileGeneratorConfig) -> nn.ModuleDict:
    """The heads of a generator, by the side of their pictures as text."""
    return nn.ModuleDict({str(size): PictureHead(config, config.head_blocks[size]) for size in config.heads})
