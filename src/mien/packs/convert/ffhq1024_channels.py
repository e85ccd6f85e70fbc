"""The 32 StyleSpace channels of the FFHQ 1024x1024 generator: a prior, not a measurement of ours.

Layers count StyleSpace entries (26 of them, ToRGB included). Which part of the face a channel moves is what the
authors of StyleSpace and public face editors report of the same weights. Sensitivities are unknown until
`python -m mien.train channels` has measured them on the user's machine; units are taken from the checkpoint's own
mapping network when it is converted.
"""

from __future__ import annotations

# The generator that these indices belong to: layer widths of FFHQ config-f at 1024x1024.
RESOLUTION = 1024
WIDTHS = (512, 512, 512, 512, 512, 256, 128, 64, 32)

CHANNELS: dict[str, tuple[tuple[int, int], ...]] = {
    "mouth": (
        (6, 501), (6, 259), (6, 113), (6, 378), (6, 202), (6, 491), (6, 21), (6, 214),
        (8, 17), (8, 85), (8, 122), (8, 191), (8, 389), (9, 26), (11, 6), (11, 86),
    ),
    "jaw": ((6, 131), (6, 144)),
    "eyes": ((12, 110), (9, 63), (14, 239), (8, 272)),
    "brows": ((8, 28), (9, 340), (12, 455), (6, 179), (9, 30), (8, 6), (8, 56)),
    "gaze": ((9, 409), (14, 414), (14, 419)),
}  # fmt: skip
