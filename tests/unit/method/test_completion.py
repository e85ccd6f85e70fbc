"""Crops that reach beyond their frame: what is seen stays, what is outside is the generator's."""

from __future__ import annotations

import numpy as np

from factories.packs import tiny_pack
from mien.face.frame_bounds import FrameBounds
from mien.method.completion import complete
from mien.nets.decoder.renderer import Renderer
from mien.report import mean_psnr


def cut_above(count: int, size: int) -> FrameBounds:
    """The upper half of each crop lies outside."""
    quad = np.array([[0, -size / 2], [0, size / 2], [size, size / 2], [size, -size / 2]]) - 0.5
    return FrameBounds(np.repeat(quad[None], count, 0), (size, size))


def test_only_the_outside_is_drawn_and_it_meets_the_border() -> None:
    pack = tiny_pack()
    crops = np.full((3, 64, 64, 3), (200, 40, 90), np.uint8)
    crops[:, :32] = (0, 255, 0)  # what a mirror made up
    made = complete(crops, cut_above(3, 64), pack.encoder, Renderer(pack.generator))
    assert np.array_equal(made[:, 33:], crops[:, 33:])
    above, far = made[:, 29:31].astype(float).mean((0, 1, 2)), made[:, :12].astype(float)
    assert np.abs(above - (200, 40, 90)).max() < 60, "the border's colours are carried on"
    assert np.abs(far - (0, 255, 0)).mean() > 40, "nothing of the mirror is left"


def test_psnr_counts_what_lies_within_the_frame() -> None:
    real = np.zeros((2, 64, 64, 3), np.uint8)
    made = real.copy()
    made[:, :30] = 255
    made[:, 40:] = 10
    bounds = cut_above(2, 64)
    lower = made[:, 32:].astype(float)
    assert abs(mean_psnr(real, made, bounds) - 10 * np.log10(255**2 / np.square(lower).mean())) < 0.3
    assert mean_psnr(real, made) < 10
