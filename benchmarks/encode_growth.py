"""What an encode costs by stage, and how time and memory grow with the clip: 100, 200 and 400 frames.

    python benchmarks/encode_growth.py CLIP [--frames 100 200 400] [--tune] [--pack mini]

Each length is a process of its own, so that its peak memory is its own. Clips that are shorter are played forwards and
backwards. `cpu` is the time of all threads together.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import chain, cycle, islice
from pathlib import Path


def one(clip: str, pack: str, tune: bool) -> None:
    """Encode, and print a JSON line."""
    from mien.api import encode_with_report

    begin = time.process_time()
    _, report = encode_with_report(clip, pack=pack, tune=tune)
    facts = report.to_json()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = {"cpu": time.process_time() - begin, "peak_mib": peak} | {k: facts[k] for k in ("frames", "seconds", "psnr")}
    print("\n" + json.dumps(line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.clip, options.pack, options.tune)
        return
    from mien.media.video import read_video, write_video

    with tempfile.TemporaryDirectory() as folder:
        for count in options.frames:
            source = read_video(options.clip)
            frames = list(islice(source, count))
            path = Path(folder) / f"{count}.mp4"
            write_video(path, islice(cycle(chain(frames, frames[::-1])), count), source.fps)
            del frames
            command = [sys.executable, __file__, str(path), "--one", "--pack", options.pack]
            run = subprocess.run(
                [*command, *(["--tune"] if options.tune else [])], capture_output=True, text=True, check=False
            )
            if run.returncode:
                raise SystemExit(run.stderr[-2000:])
            line = json.loads(run.stdout.strip().splitlines()[-1])
            stages = ", ".join(f"{k} {v:.1f}" for k, v in line["seconds"].items())
            print(f"{count} frames: cpu {line['cpu']:.1f} s ({1e3 * line['cpu'] / count:.0f} ms a frame), "
                  f"peak {line['peak_mib']:.0f} MiB; {stages}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
