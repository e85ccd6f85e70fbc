"""The pictures of docs/packs/ffhq_mobile.md, from the pulled pack and the portrait in examples/.

    python tools/make_mobile_images.py [people] [pose] [channels] [inversion] [puppet] [--driver DRIVER.mien]

Without names it makes all of them; the puppet needs a stream of the same pack to drive it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from make_images import OUT, in_two_columns, labelled, row
from numpy.typing import NDArray
from torch import Tensor

import mien
from mien.format.stream import Stream
from mien.media.images import to_bytes
from mien.media.still_images import read_image, write_image
from mien.method.pivot import PivotOptions, optimise_pivot
from mien.method.stage2_invert import invert
from mien.nets.stylespace import add_channels
from mien.packs.pack import Pack
from mien.reenact.face_source import locate_face
from mien.reenact.options import PuppetOptions

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.png"
TRUNCATION = 0.7
Frames = list[NDArray[np.uint8]]


def latents(pack: Pack, count: int, seed: int) -> Tensor:
    """People drawn at random, `[count, L, D]`."""
    mapping = pack.need("mapping")
    z = torch.randn(count, pack.generator.w_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        w = mapping.w_mean + (mapping(z) - mapping.w_mean) * TRUNCATION
    return w[:, None].expand(-1, pack.generator.num_ws, -1)


@torch.no_grad()
def drawn(pack: Pack, w_plus: Tensor) -> Frames:
    """Their pictures, one after the other."""
    return [frame for w in w_plus for frame in to_bytes(pack.generator.synthesis(w[None]))]


def people(pack: Pack) -> None:
    """24 people."""
    frames = drawn(pack, latents(pack, 24, 11))
    write_image(OUT / "ffhq_mobile_people.jpg", np.vstack([row(frames[i : i + 8], 256) for i in (0, 8, 16)]))


def pose(pack: Pack) -> None:
    """Six people: as drawn, then yaw -20 to 20 degrees, then pitch -15, 0, 10, through the flow."""
    small = pack.at(256)
    wished = torch.tensor([(y, 0.0) for y in (-20, -10, 0, 10, 20)] + [(0.0, p) for p in (-15, 0, 10)])
    rows = []
    for w in latents(pack, 6, 5):
        w_plus = w.expand(len(wished), -1, -1)
        with torch.no_grad():
            turned = pack.flow(w_plus, torch.zeros_like(wished), wished)
        rows.append(row(drawn(small, torch.cat([w[None], turned])), 128))
    write_image(OUT / "ffhq_mobile_pose.jpg", np.vstack(rows))


@torch.no_grad()
def channels(pack: Pack) -> None:
    """Three people at -6 and 6 standard deviations of each of the 32 channels."""
    small = pack.at(256)
    styles = [small.generator.styles(w[None]) for w in latents(pack, 3, 2)]
    rows = []
    for i, channel in enumerate(pack.channels):
        frames: Frames = []
        for person in styles:
            for units in (-6.0, 6.0):
                alpha = torch.zeros(1, len(pack.channels))
                alpha[0, i] = units * channel.scale
                moved = add_channels(person, pack.channels, alpha)
                frames += list(to_bytes(small.generator.synthesis_from_styles(moved)))
        rows.append(labelled(channel, row(frames, 96)))
    write_image(OUT / "ffhq_mobile_channels.jpg", in_two_columns(rows))


def inversion(pack: Pack) -> None:
    """Ten people that the pack draws and the example's portrait: the picture, `mini`'s answer to one look, the
    pack's own, and that one optimised."""
    small, mini = pack.at(256), Pack.load("mini")
    pictures = [*drawn(small, latents(pack, 10, 21)), locate_face(read_image(PORTRAIT), small).crops[0]]
    columns = []
    for picture in pictures:
        crop = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)[None]
        looks = [(p, invert(p.encoder, crop)) for p in (mini, small)]
        looks.append((small, optimise_pivot(small, looks[1][1], crop, PivotOptions())))
        frames = [crop[0], *(drawn(p, w)[0] for p, w in looks)]
        columns.append(np.vstack([cv2.resize(f, (144, 144), interpolation=cv2.INTER_AREA) for f in frames]))
    write_image(OUT / "ffhq_mobile_inversion.jpg", np.hstack(columns))


def puppet(pack: Pack, driver: Path) -> None:
    """The example's portrait, and five frames of its puppet, optimised and not tuned."""
    stream = Stream.load(driver)
    portrait = read_image(PORTRAIT)
    made = mien.puppeteer(
        stream, portrait, pack=pack.at(stream.resolution), options=replace(PuppetOptions(), tuning=None)
    )
    frames = list(mien.render(made, pack=pack))
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, 5).astype(int)]
    write_image(OUT / "ffhq_mobile_puppet.jpg", row([locate_face(portrait, pack).crops[0], *chosen], 256))


SHEETS: dict[str, Callable[[Pack], None]] = {
    "people": people,
    "pose": pose,
    "channels": channels,
    "inversion": inversion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*SHEETS, "puppet"], help=", ".join([*SHEETS, "puppet"]))
    parser.add_argument("--pack", default="ffhq-mobile")
    parser.add_argument("--driver", type=Path)
    args = parser.parse_args()
    pack = Pack.load(args.pack)
    for name in args.names:
        if name in SHEETS:
            SHEETS[name](pack)
        elif args.driver is None:
            print("the puppet is left out: it needs --driver")
        else:
            puppet(pack, args.driver)


if __name__ == "__main__":
    main()
