"""What an encode costs by stage, and how time and memory grow with the clip: 100, 400 and 1,600 frames.

    python benchmarks/encode_growth.py CLIP [--frames 100 400 1600] [--tune] [--effort 1] [--half] [--pack mini]

Each length is a process of its own, so that its peak memory is its own; freed memory stays with it, as with `mien
encode`. Clips that are shorter are played forwards and backwards. `cpu` is the time of all threads together. Where
memory is what is asked, `--effort 0.1 --half` is several times quicker: a tenth of the steps, and stage 5 and the re-fit
look at pictures of half the size. What they hold is of a run of frames, whatever the clip's length.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import chain, cycle, islice
from pathlib import Path


def one(clip: str, name: str, tune: bool, effort: float, half: bool) -> None:
    """Encode, and print a JSON line."""
    from mien.api import encode_with_report
    from mien.packs.pack import Pack
    from mien.runtime.malloc import tune_malloc

    tune_malloc()
    pack = Pack.load(name)
    if half:
        pack = replace(pack, stage_sizes=replace(pack.stage_sizes, attributes=pack.stage_sizes.attributes // 2))
    begin = time.process_time()
    _, report = encode_with_report(clip, pack=pack, tune=tune, effort=effort)
    facts = report.to_json()
    peak = peak_mib()
    line = {"cpu": time.process_time() - begin, "peak_mib": peak} | {k: facts[k] for k in ("frames", "seconds", "psnr")}
    print("\n" + json.dumps(line))


def peak_mib() -> float:
    """Largest resident memory of this process. On Linux by its own counter: that of `getrusage` begins with the parent's
    memory."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 400, 1600])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.clip, options.pack, options.tune, options.effort, options.half)
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
            command += ["--effort", str(options.effort), *(["--tune"] if options.tune else [])]
            command += ["--half"] if options.half else []
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                raise SystemExit(run.stderr[-2000:])
            line = json.loads(run.stdout.strip().splitlines()[-1])
            stages = ", ".join(f"{k} {v:.1f}" for k, v in line["seconds"].items())
            print(f"{count} frames: cpu {line['cpu']:.1f} s ({1e3 * line['cpu'] / count:.0f} ms a frame), "
                  f"peak {line['peak_mib']:.0f} MiB; {stages}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
