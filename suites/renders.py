"""Makes mien's own rows of the suites in this folder: crops, inversions, renders and puppets.

    python suites/renders.py paper_demo
    python suites/renders.py ablation|table2|table3 --clips DIR [--portraits DIR] [--pack mini] [--restyle-pack PACK]
                             [--duration S] [--only d18 ...]

Clips are DIR/NAME.mp4, as the suites name them; portraits DIR/NAME.png. The panels of paper_demo are where the suite says.
What is there already is not made again.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.api import encode_with_report
from mien.evaluate.frames import frames
from mien.format.stream import Stream
from mien.media.video import read_image, read_video, write_video
from mien.method.stage1_align.align import align
from mien.method.stage6_render.render import render
from mien.packs.pack import Pack
from mien.reenact.puppeteer import puppeteer

HERE = Path(__file__).parent
VARIANTS = {
    "paper_demo": ("mien",),
    "ablation": ("mien", "restyle", "untuned", "untuned-real"),
    "table2": ("mien",),
    "table3": ("untuned", "direct"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=VARIANTS)
    parser.add_argument("--clips", type=Path, default=HERE, metavar="DIR")
    parser.add_argument("--portraits", type=Path, metavar="DIR")
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--restyle-pack", metavar="PACK")
    parser.add_argument("--duration", type=float, metavar="S")
    parser.add_argument("--only", nargs="*", metavar="NAME")
    options = parser.parse_args()
    pairs = tomllib.loads((HERE / f"{options.suite}.toml").read_text())["clip"]
    for clip in pairs:
        demo = options.suite == "paper_demo"
        name = clip["name"] if demo else Path(clip["reference"]).stem
        source = HERE / clip["reference"] if demo else options.clips / f"{name}.mp4"
        if ("panel" in clip and not demo) or not source.is_file() or (options.only and name not in options.only):
            continue
        crops = _crops(source, name, Pack.load(options.pack).resolution, options.duration, clip.get("panel"))
        for variant in VARIANTS[options.suite]:
            pack = options.restyle_pack if variant == "restyle" else options.pack
            if pack is not None:
                _render(crops, variant, name, pack)
        if options.suite == "table2" and options.portraits is not None:
            _puppet(options.portraits, clip, name, options.pack)


def _crops(source: Path, name: str, size: int, duration: float | None, panel: int | None) -> Path:
    """I_t, without loss; a panel is in FFHQ framing already."""
    path = HERE / "clips" / f"{name}.mkv"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        clip = read_video(source, 0.0, duration)
        crops = align(clip, float(clip.fps), size=size).crops if panel is None else None
        write_video(path, frames(source, size=size, panel=panel) if crops is None else crops, clip.fps)
        print(path, flush=True)
    return path


def _render(crops: Path, variant: str, name: str, pack: str) -> None:
    folder = HERE / "renders" / variant
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.mkv"
    if path.is_file():
        return
    if variant == "direct":
        stream = _direct(crops, Stream.load(HERE / "renders" / "untuned" / f"{name}.mien"), pack)
    else:
        stream, _ = encode_with_report(
            crops, pack=pack, aligned=True, tune=variant in ("mien", "restyle"), sound=False,
            inversions=folder / f"{name}.S_t.mkv", real_targets=variant == "untuned-real",
        )  # fmt: skip
    stream.save(folder / f"{name}.mien")
    write_video(path, _frames(stream, pack), stream.fps)
    print(path, flush=True)


def _direct(crops: Path, fitted: Stream, pack: str) -> Stream:
    """The stream with the angles that the mesh shows in place of the fitted ones, within what the flow takes."""
    import torch

    from mien.method.stage1_align.align import already_aligned

    networks = Pack.load(pack)
    clip = read_video(crops)
    seen = already_aligned(clip, float(clip.fps), size=networks.resolution)
    measured = networks.flow.clamp(torch.from_numpy(np.stack([seen.yaw, seen.pitch], 1)).float()).numpy()
    numbers = fitted.frames.copy()
    numbers[:, 1:3] = measured
    return replace(fitted, frames=numbers)


def _puppet(portraits: Path, clip: dict[str, str], driver: str, pack: str) -> None:
    path = HERE / "puppets" / "mien" / f"{clip['name']}.mp4"
    source = portraits / Path(clip["identity"]).name
    if path.is_file() or not source.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    target = HERE / clip["identity"]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(source.read_bytes())
    puppet = puppeteer(Stream.load(HERE / "renders" / "mien" / f"{driver}.mien"), read_image(source), pack=pack)
    write_video(path, _frames(puppet, pack), puppet.fps)
    print(path, flush=True)


def _frames(stream: Stream, pack: str) -> Iterator[np.ndarray]:
    yield from render(stream, pack=pack)


if __name__ == "__main__":
    main()
