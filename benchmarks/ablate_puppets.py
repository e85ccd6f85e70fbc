"""What each layer of puppeteering a portrait beyond the paper is worth, by `mien.evaluate.judges`.

    python benchmarks/ablate_puppets.py --portraits IMAGE ... --drivers DRIVER.mien ... [--frames 40] [--steps 60]
                                        [--only NAME ...] [-o runs/ablate_puppets.jsonl]
    python benchmarks/ablate.py --table runs/ablate_puppets.jsonl

Each portrait is driven by the first frames of each driver, with all layers (`full`) and without one of them, and the
puppet is judged beside the driver's own render, with identity beside the portrait. A run is one line of the output
file; those that are there with the same settings are not made again. The table is that of `ablate.py`, with pairs in
place of clips.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from ablate import figures
from numpy.typing import NDArray
from run_file import RunFile

import mien
from mien.evaluate.judges import judge
from mien.format.stream import Stream
from mien.media.still_images import read_image
from mien.packs.pack import Pack
from mien.reenact.face_source import locate_face
from mien.reenact.options import PuppetOptions

Change = Callable[[PuppetOptions], PuppetOptions]


def tuned(**changes: object) -> Change:
    """Change fields of the tuning to a portrait."""
    return lambda options: replace(options, tuning=replace(options.tuning, **changes))  # type: ignore[type-var]


LAYERS: dict[str, Change] = {
    "full": lambda options: options,
    "warped views": lambda options: replace(options, views=None),
    "eye transfer": lambda options: replace(options, eye_transfer=None),
    "driver's gaze in the views": lambda options: replace(options, views=replace(options.views, driver_gaze=False)),
    "noise maps": tuned(noise=False),
    "ImageNet features": tuned(imagenet=0.0),
    "tuning": lambda options: replace(options, tuning=None),
}


def drawn(stream: Stream) -> list[NDArray[np.uint8]]:
    """The pictures of a stream."""
    return list(mien.render(stream))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, nargs="+", required=True)
    parser.add_argument("--drivers", type=Path, nargs="+", required=True)
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", nargs="*", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablate_puppets.jsonl"))
    given = parser.parse_args()
    pack = Pack.load(given.pack)
    kept = slice(None, given.frames * given.every, given.every)
    drivers = {p.stem: Stream.load(p) for p in given.drivers}
    drivers = {name: replace(s, frames=s.frames[kept], coded=b"", audio=b"") for name, s in drivers.items()}
    theirs = {name: drawn(stream) for name, stream in drivers.items()}
    settings = f"{given.pack}, {given.frames} frames, every {given.every}, {given.steps} steps"
    runs = RunFile(given.output, "settings", "clip", "layer")
    for layer in given.only:
        for path in given.portraits:
            image = read_image(path)
            crop = locate_face(image, pack).crops[:1]
            for name, driver in drivers.items():
                pair = f"{path.stem} by {name}"
                if (settings, pair, layer) in runs:
                    continue
                base = PuppetOptions.mien()
                base = replace(base, tuning=replace(base.tuning, steps=given.steps))
                begin, clock = time.process_time(), time.perf_counter()
                puppet = mien.puppeteer(driver, image, options=LAYERS[layer](base), pack=pack)
                seconds = time.process_time() - begin
                judged = judge(theirs[name], drawn(puppet), portrait=crop)
                cost = {"process seconds": seconds}
                record = {"settings": settings, "clip": pair, "seed": 0, "layer": layer}
                runs.add({**record, "puppet": figures(judged), "cost": cost})
                print(f"{layer}, {pair}: {time.perf_counter() - clock:.0f} s", flush=True)


if __name__ == "__main__":
    main()
