"""MobileStyleGAN's synthesis network (Belousov 2021, arXiv 2104.04767): StyleGAN2 distilled into wavelets.

A block works on Haar bands: an inverse Haar transform doubles the side and quarters the width, then two depthwise
separable convolutions follow. Weights are not demodulated per sample, so that a style scales its feature map and
nothing else. The interface is that of `mien.nets.generator.Generator`:

- `styles(w_plus)`: A(.) of the paper, W+ -> StyleSpace, one tensor `[N, C_l]` a layer;
- `synthesis_from_styles(styles)`: G_ss(.) of the paper;
- `synthesis(w_plus)`: G(L) = G_ss(A(L)).

Every layer has a row of W+ of its own: one for the first convolution, three a block (`up`, `conv1`, `conv2`), one for
the image. The FFHQ student at 1024x1024 has 7 blocks, 23 rows and 6,752 StyleSpace channels.

Small pictures come from heads (`PictureHead`): what the blocks that are left out would draw, averaged down.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from mien.nets.generator import Generator, Window, downsample_to
from mien.nets.mobile_layers import (
    FirstConv,
    MobileGeneratorConfig,
    SeparableConv,
    Styled,
    ToImage,
    band_order,
    modulated_inverse_haar,
    style_layers,
)
from mien.nets.picture_head import picture_heads

# Pixels of a block's input that its two 3x3 convolutions cannot reach across, even where the division by 4 has moved a
# window's corner by less than one of them.
BLOCK_MARGIN = 4


class MobileGenerator(Generator):
    """MobileStyleGAN's synthesis network. It draws the sizes of its heads and the finished picture; smaller pictures
    are the smallest head's, averaged down."""

    def __init__(self, config: MobileGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.w_dim, self.num_ws = config.resolution, config.w_dim, config.num_ws
        self.layers = style_layers(config)
        self.const = nn.Parameter(torch.randn(1, config.channels[0], 4, 4))
        w = config.w_dim
        modules: list[nn.Module] = [FirstConv(w, config.channels[0], config.channels[0], 4)]
        for k in range(config.blocks):
            side, width, out = 8 * 2**k, config.channels[k], config.channels[k + 1]
            modules += [Styled(w, width), SeparableConv(w, width // 4, out, side), SeparableConv(w, out, out, side)]
        modules.append(ToImage(w, out))
        self.blocks = nn.ModuleList(modules)
        self.heads = picture_heads(config)
        self.sizes = (*sorted(config.heads), config.resolution)
        self.rgb_valid_from = self.sizes[0]
        self.draws_windows = config.resolution // 2 in config.heads

    def at(self, size: int) -> MobileGenerator:
        """The generator that draws pictures of `size` and no larger: it shares all weights with this one and lacks what
        only larger pictures need. Raises ValueError where there is no head for that size."""
        if size not in self.sizes:
            raise ValueError(f"this generator draws pictures of {', '.join(map(str, self.sizes))}, not {size}")
        small = copy.copy(self)
        small._modules = dict(self._modules)
        small.resolution, small.sizes = size, tuple(s for s in self.sizes if s <= size)
        if size == self.config.resolution:
            return small
        small.draws_windows = False
        needed = 2 + 3 * (self.config.head_blocks[size] + 1)
        blocks = [b if i < needed - 1 else _only_styled(b) for i, b in enumerate(self.blocks)]
        small.blocks = nn.ModuleList(blocks)
        small.heads = nn.ModuleDict({name: head for name, head in self.heads.items() if int(name) <= size})
        return small

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """A(L): `w_plus [N, num_ws, w_dim]` -> StyleSpace, a list of `[N, C_l]` in the order of `layers`."""
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"w_plus must be [N, {self.num_ws}, {self.w_dim}], not {list(w_plus.shape)}")
        # Always in float32: what 35 numbers do must not drown in the rounding of what they are added to.
        with torch.autocast(w_plus.device.type, enabled=False):
            w_plus = w_plus.float() if w_plus.dtype == torch.bfloat16 else w_plus
            return [block.affine(w_plus[:, i]) for i, block in enumerate(cast("Iterable[Styled]", self.blocks))]

    def synthesis_from_styles(
        self, styles: list[Tensor], resolution: int | None = None, window: Window | None = None
    ) -> Tensor:
        """G_ss: StyleSpace -> image `[N, 3, H, W]`, nominally in [-1, 1].

        `resolution`: the side of the picture, by the smallest head that reaches it, averaged down where it is larger.
        `window`: that part of the finished picture only; its corners are even numbers of pixels.
        """
        size = self.resolution if resolution is None else min(resolution, self.resolution)
        drawn = next(s for s in self.sizes if s >= size)
        if drawn < self.config.resolution:
            if window is not None:
                raise ValueError("a window is cut from the finished picture, not from one of a lower resolution")
            x = self.features(styles, self.config.head_blocks[drawn])
            image: Tensor = self.heads[str(drawn)](x, styles)
        else:
            image = self._finish(self.features(styles, self.config.blocks - 2), styles, window)
        return image if window is not None else downsample_to(image, size)

    def synthesis_with_detail(self, styles: list[Tensor], window: Window) -> tuple[Tensor, Tensor]:
        """The whole picture at half of the resolution, `[N, 3, R/2, R/2]`, and `window` of the finished one: what a loss
        on random windows needs, at little more than the cost of half the resolution."""
        half = str(self.config.resolution // 2)
        if self.resolution != self.config.resolution or half not in self.heads:
            raise ValueError(f"windows need the whole generator and a head for {half}")
        x = self.features(styles, self.config.blocks - 2)
        return self.heads[half](x, styles), self._finish(x, styles, window)

    def frames_at_once(self, wished: int, size: int) -> int:
        """A fourth of the usual: features are so much wider. Blocks of more than 64 MiB also find no room in the memory
        that glibc sets aside for a thread, and cost page faults each time."""
        return max(1, super().frames_at_once(wished, size) // 4)

    def compared_size(self, wished: int) -> int:
        """Tuning at full size trains the head for half of it, or none: smaller heads do not fit the tuned blocks. What
        is averaged down from a trained size does."""
        trained = self.resolution // 2 if self.draws_windows else self.resolution
        return min(wished, self.resolution) if self.drawn_resolution(wished) >= trained else trained

    def tunable_names(self) -> tuple[str, ...]:
        """All but the affine layers, heads included: they draw what the tuned blocks would."""
        return tuple(name for name, _ in self.named_parameters() if ".affine." not in name)

    def noise_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.tunable_names() if "noise_const" in name)

    def rate_scale(self, name: str) -> float:
        """Of the FFHQ student: pointwise weights are of a spread of about 0.05, depthwise ones of 4, others near 1."""
        if "depthwise" in name:
            return 4.0
        pointwise = name.split(".")[-2 if name.startswith("heads") else -1] == "weight" and name != "blocks.0.weight"
        return 0.05 if pointwise or name.endswith("image_weight") else 1.0

    def features(self, styles: list[Tensor], block: int, after: tuple[int, Tensor] | None = None) -> Tensor:
        """The features of block `block` (from 0; -1: of the first layer), `[N, C, H, W]`, sorted by `band_order` but for
        the last block's. `after`: a block and its features, where they are known."""
        if after is None:
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.const.dtype
            x = self.const.to(dtype).expand(len(styles[0]), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            after = (-1, self.blocks[0](x, styles[0], band_order(self.config.channels[0]).to(x.device)))
        known, x = after
        for k in range(known + 1, block + 1):
            x = self._block(x, styles, k)
        return x

    def _block(self, x: Tensor, styles: list[Tensor], k: int, window: Window | None = None) -> Tensor:
        """Block k on the features before it; `window`: the part of block k's map that they give."""
        layer = 1 + 3 * k
        order = band_order(x.shape[1]).to(x.device)
        x = modulated_inverse_haar(x, styles[layer][:, order])
        x = self.blocks[layer + 1](x, styles[layer + 1], None, window)
        out = self.config.channels[k + 1]
        sort = band_order(out).to(x.device) if k + 1 < self.config.blocks else None
        return self.blocks[layer + 2](x, styles[layer + 2], sort, window)

    def _finish(self, x: Tensor, styles: list[Tensor], window: Window | None) -> Tensor:
        """The last block and the picture, from the features of the block before."""
        last = self.config.blocks - 1
        if window is None:
            return self.blocks[-1](self._block(x, styles, last), styles[-1])
        before = window.scaled(down=4).grown(BLOCK_MARGIN, x.shape[-1])
        features = self._block(before.cut(x), styles, last, before.scaled(up=2))
        image: Tensor = self.blocks[-1](features, styles[-1])
        return window.within(before.scaled(up=4)).cut(image)


def _only_styled(block: nn.Module) -> nn.Module:
    """The layer without its convolution: the affine map, shared."""
    kept = Styled.__new__(Styled)
    nn.Module.__init__(kept)
    kept.affine = block.affine  # type: ignore[assignment]
    return kept
