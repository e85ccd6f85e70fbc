"""What all generators have in common: A(.), G_ss(.), and what the stages have to know of them.

Stages, personalisation and re-enactment know a generator by this class alone. `nets.stylegan2.StyleGAN2Generator` is
one.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.media.images import psnr_from_mse


@dataclass(frozen=True)
class StyleLayer:
    """One entry of the StyleSpace map: its name, block resolution, W+ row and width."""

    name: str
    resolution: int
    row: int
    width: int
    to_rgb: bool


@dataclass(frozen=True)
class Window:
    """A part of the picture, in pixels of one resolution: rows `top` to `bottom`, columns `left` to `right`."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, x: Tensor) -> Tensor:
        """The part of a tensor `[..., H, W]`."""
        if x.ndim == 4 and x.requires_grad:
            return _Cut.apply(x, self)
        return x[..., self.top : self.bottom, self.left : self.right]

    def grown(self, margin: int, size: int) -> Window:
        """The window with a margin on all sides, as far as a picture of `size` reaches."""
        low, high = lambda v: max(0, v - margin), lambda v: min(size, v + margin)
        return Window(low(self.top), low(self.left), high(self.bottom), high(self.right))

    def scaled(self, up: int = 1, down: int = 1) -> Window:
        """The window at another resolution; `down` must divide it."""
        return Window(*(v * up // down for v in (self.top, self.left, self.bottom, self.right)))

    def within(self, outer: Window) -> Window:
        """The window in coordinates that begin at `outer`'s corner."""
        return Window(self.top - outer.top, self.left - outer.left, self.bottom - outer.top, self.right - outer.left)


class _Cut(torch.autograd.Function):
    """`Window.cut` of `[N, C, H, W]`. The gradient of two slices is two copies of the whole size, in the wrong
    layout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window) -> Tensor:
        ctx.size, ctx.window = x.shape[-2:], window
        return x[..., window.top : window.bottom, window.left : window.right]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (g,) = gradients
        whole = g.new_zeros((len(g), *ctx.size, g.shape[1])).permute(0, 3, 1, 2)  # channels last
        ctx.window.cut(whole).copy_(g)
        return whole, None


def downsample_to(images: Tensor, size: int) -> Tensor:
    """Average images `[N, 3, H, H]` over areas down to `size`, where they are larger."""
    return images if images.shape[-1] <= size else F.interpolate(images, (size, size), mode="area")


class Generator(nn.Module, ABC):
    """A synthesis network that is driven through W+ and StyleSpace. Images are float `[N, 3, H, W]`, nominally in
    [-1, 1] and not clamped.

    Attributes:
        resolution: side of the finished picture in pixels, a power of two.
        w_dim, num_ws: width and number of the rows of W+.
        layers: the StyleSpace map, in the order of `styles`.
        rgb_valid_from: the resolution from which `synthesis_from_styles(styles, resolution)` is the finished picture
            at a lower resolution, and not only what higher blocks add to.
        sizes: the resolutions at which the pack may be used (`at`), in ascending order.
        draws_windows: whether drawing the last block in a window only is much cheaper than drawing all of it.
    """

    resolution: int
    w_dim: int
    num_ws: int
    layers: tuple[StyleLayer, ...]
    rgb_valid_from: int
    sizes: tuple[int, ...]
    draws_windows: bool = False

    @abstractmethod
    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """A(L): `w_plus [N, num_ws, w_dim]` -> StyleSpace, float32 `[N, C_l]` in the order of `layers`."""

    @abstractmethod
    def synthesis_from_styles(
        self, styles: list[Tensor], resolution: int | None = None, window: Window | None = None
    ) -> Tensor:
        """G_ss: StyleSpace -> image `[N, 3, H, W]`.

        `resolution`: stop at a lower power of two (see `rgb_valid_from`, and `picture` for what is valid at any).
        `window`: return that part only; its corners are even numbers of pixels.
        """

    @abstractmethod
    def tunable_names(self) -> tuple[str, ...]:
        """The parameters that personalisation may change, by name, in the order in which their differences travel. The
        affine layers are none of them, so that StyleSpace keeps its meaning."""

    @abstractmethod
    def noise_names(self) -> tuple[str, ...]:
        """Those of `tunable_names` that are noise constants, `[h, w]` each behind leading axes of length 1."""

    def rate_scale(self, name: str) -> float:
        """How large the numbers of a tunable parameter are, beside 1: what a learning rate that suits numbers of unit
        variance has to be multiplied by. StyleGAN2 keeps its weights at unit variance (equalised learning rate)."""
        return 1.0

    def synthesis_with_detail(self, styles: list[Tensor], window: Window) -> tuple[Tensor, Tensor]:
        """The whole picture at half the resolution, `[N, 3, R/2, R/2]`, and `window` of the finished one."""
        image = self.synthesis_from_styles(styles)
        return F.avg_pool2d(image, 2), window.cut(image)

    def synthesis(self, w_plus: Tensor, resolution: int | None = None) -> Tensor:
        """G(L) = G_ss(A(L)): `w_plus [N, num_ws, w_dim]` -> image `[N, 3, H, W]`."""
        return self.synthesis_from_styles(self.styles(w_plus), resolution)

    forward = synthesis

    def drawn_resolution(self, size: int) -> int:
        """The lowest resolution from which a picture of `size` pixels can be had."""
        return min(max(size, self.rgb_valid_from), self.resolution)

    def picture(self, styles: list[Tensor], size: int) -> Tensor:
        """The finished picture averaged down to `size`, as cheaply as it is valid: `[N, 3, size, size]`, or of the
        generator's own resolution where that is smaller."""
        return downsample_to(self.synthesis_from_styles(styles, self.drawn_resolution(size)), size)

    def compared_size(self, wished: int) -> int:
        """The side at which a tuned generator's pictures can be compared with frames: `wished`, or the smallest that
        tuning at full size trains too; at most the generator's own."""
        return min(wished, self.resolution)

    def frames_at_once(self, wished: int, size: int) -> int:
        """How many pictures of `size` pixels fit in the memory that `wished` of 256x256 take, at least 1."""
        side = max(self.drawn_resolution(size), 256)
        return max(1, wished * 256**2 // side**2)

    def at(self, size: int) -> Self:
        """This generator at another of its `sizes`, on the same parameters. Raises ValueError for any other."""
        if size not in self.sizes:
            raise ValueError(f"this generator draws {', '.join(map(str, self.sizes))}, not {size}")
        if size == self.resolution:
            return self
        other = copy.copy(self)
        other.resolution = size
        return other

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device


# dB between a partial sum of RGB and the finished picture, both averaged down, from which they are the same to a loss.
CLOSE_DB = 28.0


@torch.no_grad()
def measured_rgb_valid_from(generator: Generator, w_plus: Tensor, lowest: int = 32) -> int:
    """The lowest resolution, a power of two from `lowest` on, from which `generator`'s partial pictures of the latents
    `w_plus [N, L, D]` are within `CLOSE_DB` of the finished ones averaged down to `lowest`."""
    lowest = min(lowest, generator.resolution)
    finished = downsample_to(torch.cat([generator.synthesis(w[None]) for w in w_plus]), lowest)
    resolution = lowest
    while resolution < generator.resolution:
        partial = downsample_to(torch.cat([generator.synthesis(w[None], resolution) for w in w_plus]), lowest)
        if psnr_from_mse(float((partial - finished).square().mean()), peak=2) >= CLOSE_DB:
            break
        resolution *= 2
    return resolution
