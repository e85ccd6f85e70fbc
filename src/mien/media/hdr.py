"""HDR video (PQ, HLG; BT.2020) as sRGB: one table of colours, applied by FFmpeg's `lut3d`.

Light is taken as BT.2408 has it: reference white is 203 cd/m2, and HLG is seen on a display of 1000 cd/m2 (BT.2100, system
gamma 1.2). Up to `KNEE` of reference white nothing changes but the primaries, so that skin keeps its colour; above it
highlights are rolled off. What BT.709 cannot show is drawn towards grey of the same luminance.
"""

from __future__ import annotations

import atexit
import itertools
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273: SMPTE ST 2084, ARIB STD-B67
HDR_TRANSFERS = {PQ: "PQ", HLG: "HLG"}
REFERENCE_WHITE = 203.0  # cd/m2, BT.2408
PEAK = 1000.0  # cd/m2 that highlights are rolled off from
KNEE = 0.8  # of reference white
TABLE_SIDE = 33
BT2020_PRIMARIES = 9
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
LUMA_709 = np.array([0.2126, 0.7152, 0.0722])
# Linear light, BT.2020 to BT.709 primaries (BT.2087).
TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def hlg_light(signal: Array) -> Array:
    """HLG signal `[..., 3]` in [0, 1] to display light in cd/m2 on a display of `PEAK` (BT.2100, Tables 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, np.square(signal) / 3, (np.exp((signal - c) / a) + b) / 12)
    return PEAK * scene * ((scene @ LUMA_2020)[..., None].clip(1e-9) ** 0.2)


def pq_light(signal: Array) -> Array:
    """PQ signal `[..., 3]` in [0, 1] to display light in cd/m2 (BT.2100, Table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    return 10_000 * ((power - c1).clip(0) / (c2 - c3 * power)) ** (1 / m1)


def to_sdr(signal: Array, transfer: int, primaries: int = BT2020_PRIMARIES) -> Array:
    """HDR signal R'G'B' `[..., 3]` in [0, 1] to sRGB in [0, 1]. `transfer`: `PQ` or `HLG`."""
    light = (hlg_light if transfer == HLG else pq_light)(signal) / REFERENCE_WHITE
    top = light.max(-1, keepdims=True)
    light = light * (_rolled_off(top, PEAK / REFERENCE_WHITE) / top.clip(1e-9))
    if primaries == BT2020_PRIMARIES:
        light = light @ TO_709.T
    grey = (light @ LUMA_709)[..., None].clip(0, 1)
    low, high = light.min(-1, keepdims=True), light.max(-1, keepdims=True)
    # The largest share of the colour for which no component is under 0 or over 1.
    share = np.minimum(
        np.where(low < 0, grey / (grey - low).clip(1e-9), 1.0),
        np.where(high > 1, (1 - grey) / (high - grey).clip(1e-9), 1.0),
    )
    light = (grey + (light - grey) * share).clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # sRGB, as screens show it


def _rolled_off(light: Array, peak: float) -> Array:
    """Unchanged up to `KNEE`; from there to `peak`, which becomes 1, by Reinhard's curve with a white point."""
    over = (light.clip(KNEE, peak) - KNEE) / (1 - KNEE)
    most = (peak - KNEE) / (1 - KNEE)
    return np.where(light <= KNEE, light, KNEE + (1 - KNEE) * over * (1 + over / most**2) / (1 + over))


@cache
def _table(transfer: int, primaries: int) -> Path:
    """A `.cube` file of `to_sdr`, which is removed when the program ends."""
    axis = np.linspace(0, 1, TABLE_SIDE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    colours = to_sdr(np.stack([red, green, blue], -1), transfer, primaries).reshape(-1, 3)
    with tempfile.NamedTemporaryFile("w", prefix="mien", suffix=".cube", delete=False, encoding="ascii") as file:
        file.write(f"LUT_3D_SIZE {TABLE_SIDE}\n")
        np.savetxt(file, colours, "%.6f")
    path = Path(file.name)
    atexit.register(path.unlink, missing_ok=True)
    return path


class ToneMapper:
    """`mapper(frame)`: an HDR frame (YUV, BT.2020) as an sRGB one of 10 bits. Made for frames of one kind."""

    def __init__(self, frame: Any) -> None:
        self.kind = kind(frame)
        self._graph = graph = av.filter.Graph()
        ranges = "pc" if int(frame.color_range) == 2 else "tv"
        source = graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000:pixel_aspect=1/1"
            f":colorspace=bt2020nc:range={ranges}",
        )
        # RGB first, by the matrix alone: swscale's own conversion of transfer and primaries takes seconds a frame.
        scale = graph.add("scale", "in_color_matrix=bt2020:out_range=pc:flags=bicubic+accurate_rnd+full_chroma_int")
        chain = [
            source,
            scale,
            graph.add("format", "pix_fmts=gbrp10le"),
            graph.add("lut3d", f"file={_table(int(frame.color_trc), int(frame.color_primaries))}:interp=tetrahedral"),
            graph.add("buffersink"),
        ]
        for before, after in itertools.pairwise(chain):
            before.link_to(after)
        graph.configure()

    def __call__(self, frame: Any) -> Any:
        self._graph.push(frame)
        return self._graph.pull()


def kind(frame: Any) -> tuple[Any, ...]:
    """What a `ToneMapper` is made for."""
    return (
        frame.width, frame.height, frame.format.name, int(frame.color_range), int(frame.color_trc), int(frame.color_primaries),
    )  # fmt: skip
