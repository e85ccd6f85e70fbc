"""Kills `mien encode` at random moments (SIGKILL), takes it up again, and compares the files.

    python benchmarks/kill_encode.py clip.mp4 --kills 20 --duration 1 [--pack PACK] [--effort 0.5] [--chain]

One encode runs through first. Then each trial starts the same command anew, kills it after a random part of that time,
and runs it again to the end; with --chain one single encode is killed again and again instead, and finished at the end.
Said for each kill: when, which stages were finished, whether the file was there already. At the end: how many files
differ from the first one's, and what is left in the folder beside them. `--effort`: fewer steps of tuning, so that it
takes less long (the same for all runs). Exit code 1 if anything differs or is left behind.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILD = "import sys\nfrom mien.apps.cli.cli import main\nsys.exit(main(sys.argv[1:]))"


def command(given: argparse.Namespace, output: Path) -> list[str]:
    """What is run: the command line itself, with less effort where that was asked for."""
    options = ["--duration", str(given.duration), "--start", str(given.start), "--no-sound"]
    options += ["--pack", given.pack] if given.pack else []
    options += ["--effort", str(given.effort)] if given.effort else []
    return [sys.executable, "-c", CHILD, "encode", str(given.clip), "-o", str(output), *options]


def kill_after(line: list[str], seconds: float, output: Path) -> str:
    """Run `line`, kill it after so many seconds; says what it had done. "" where it was done before."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        done = sorted(path.stem for path in output.with_name(output.name + ".work").glob("*.npz"))
        return f"killed after {seconds:.2f} s; kept: {', '.join(done) or 'nothing'}; file there: {output.exists()}"
    if process.returncode:
        sys.exit(err.decode())
    return ""


def main() -> int:
    """Runs the trials; returns the exit code."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("clip", type=Path)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--duration", type=float, default=1.0)
    options.add_argument("--start", type=float, default=0.0)
    options.add_argument("--pack")
    options.add_argument("--effort", type=float, default=0.0, help="of tuning and of refining; the usual if 0")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--chain", action="store_true")
    given = options.parse_args()
    rng = random.Random(given.seed)
    digests: list[str] = []
    os.environ.setdefault("MIEN_CHECKPOINT", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "first.mien"
        begin = time.monotonic()
        subprocess.run(command(given, first), check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - begin
        wanted = hashlib.sha256(first.read_bytes()).hexdigest()
        print(f"uninterrupted: {whole:.1f} s, {first.stat().st_size:,} bytes, {wanted[:16]}", flush=True)
        kills = 0
        output = folder / "killed.mien"
        while kills < given.kills:
            said = kill_after(command(given, output), rng.uniform(0, whole * (0.7 if given.chain else 1.0)), output)
            if said:
                kills += 1
                print(f"{kills}: {said}", flush=True)
            if not said or not given.chain or kills == given.kills:
                subprocess.run(command(given, output), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                digests.append(hashlib.sha256(output.read_bytes()).hexdigest())
                output.unlink()
        left = sorted(path.name for path in folder.iterdir() if path != first)
    wrong = sum(digest != wanted for digest in digests)
    print(f"{kills} kills, {len(digests)} files finished, {wrong} differ; left behind: {', '.join(left) or 'nothing'}")
    return 1 if wrong or left else 0


if __name__ == "__main__":
    sys.exit(main())
