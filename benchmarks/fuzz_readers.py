"""Throws mutated files at everything that reads files, beside the reader of `.mien` (fuzz_stream.py).

    python benchmarks/fuzz_readers.py image --seconds 600 --seeds photo.heic
    python benchmarks/fuzz_readers.py recipe person pack suite upload video --seconds 600

Files are read in a process of their own, so that a crash of the interpreter is a finding and not the end. A finding is
any exception but MienError, a message of more than one line, an answer after more than 10 s of processor time or two
minutes by the clock, an end of the process, or more than 2 GB. Findings are written to --keep. The same seed gives the
same files.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import multiprocessing
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from factories.clips import make_clip, pictures
from factories.mutations import mutate as mutate_stream
from factories.mutations import mutate_bytes
from factories.mutations import seeds as stream_seeds
from factories.packs import tiny_pack
from factories.streams import make_stream
from mien.apps.studio.media import checked_clip, checked_image, checked_stream
from mien.apps.studio.sessions import CLIPS, IMAGES, KINDS, check_kind
from mien.editing.operations import OPERATIONS, edit
from mien.editing.recipe import read_recipe
from mien.errors import MienError
from mien.evaluate.suite import read_suite
from mien.format.person import Person
from mien.format.weights_codec import apply_delta
from mien.media.sound import extract_audio
from mien.media.still_images import read_image
from mien.media.video import read_video
from mien.packs.pack import Pack
from mien.personalize.generator_params import weights_for

MEMORY = 2 << 30
CPU_SECONDS, CLOCK_SECONDS = 10.0, 60.0  # of the latter twice: all processes may have been stopped once
Mutate = Callable[[bytes, list[bytes], random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """One reader: sound files by their suffix, how they are changed, and how they are read."""

    seeds: list[tuple[str, bytes]]
    mutate: Mutate
    use: Callable[[Path], Any]


def several(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four changes of bytes."""
    for _ in range(rng.randint(1, 4)):
        data = mutate_bytes(data, others, rng)
    return data


def image_seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Small pictures of each kind, with profiles, EXIF, palettes, 16 bits, transparency and several frames."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(pictures(1)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        (".png", picture, {"icc_profile": profile, "exif": exif}),
        (".png", picture.convert("P"), {"transparency": 3}),
        (".png", picture.convert("RGBA"), {}),
        (".png", Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20), {}),
        (".jpg", picture, {"icc_profile": profile, "exif": exif, "progressive": True}),
        (".jpg", picture.convert("CMYK"), {}),
        (".webp", picture.convert("RGBA"), {"icc_profile": profile, "exif": exif}),
        (".webp", picture, {"save_all": True, "append_images": [picture.rotate(90)], "duration": 80}),
        (".bmp", picture, {}),
        (".tiff", picture, {"compression": "tiff_lzw", "icc_profile": profile}),
        (".tiff", picture, {"compression": "tiff_deflate"}),
    ]
    out = []
    for suffix, image, options in kinds:
        data = io.BytesIO()
        image.save(data, {".jpg": "JPEG", ".tiff": "TIFF"}.get(suffix, suffix[1:].upper()), **options)
        out.append((suffix, data.getvalue()))
    return out


def mutate_image(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Changes of bytes; of a PNG half of the time within a chunk, whose checksum is made right again."""
    if not data.startswith(b"\x89PNG") or rng.random() < 0.5:
        return several(data, others, rng)
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = rng.randrange(len(chunks))
    kind, payload = chunks[place]
    if kind == b"IDAT" and rng.random() < 0.5:
        payload = zlib.compress(several(zlib.decompress(payload), [payload], rng))
    else:
        payload = several(payload, [p for _, p in chunks], rng)
    chunks[place] = (kind, payload)
    joined = [struct.pack(">I", len(p)) + k + p + struct.pack(">I", zlib.crc32(k + p)) for k, p in chunks]
    return data[:8] + b"".join(joined)


def video_seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Small clips in several containers and codecs."""
    kinds = [
        (".mp4", "libx264", "yuv420p", "aac", 90), (".mov", "libx264", "yuv420p", "aac", 0),
        (".mkv", "ffv1", "bgr0", None, 0), (".webm", "libvpx-vp9", "yuv420p", "libopus", 0),
        (".ts", "libx264", "yuv420p", "aac", 0), (".avi", "mpeg4", "yuv420p", "mp3", 0),
    ]  # fmt: skip
    out = []
    for i, (suffix, codec, pix_fmt, sound, rotation) in enumerate(kinds):
        path = folder / f"seed{i}{suffix}"
        make_clip(path, pictures(6), codec=codec, pix_fmt=pix_fmt, sound=None if sound == "libopus" else sound,
                  rotation=rotation)  # fmt: skip
        out.append((suffix, path.read_bytes()))
    return out


TOML_VALUES = (
    "0", "-1", "1e308", "nan", "-inf", "true", "[]", "[[]]", "{}", '""', '"mouth"', '"yaw"', '["eyes", "x"]', '"zero"',
    "1979-05-27", "9" * 400, "0.5", '"\\u0000"', '"/"', '"../x.mien"', '"."', '"channel.1"', "[1, 2]", '"channel.99999999999999999999"',
)  # fmt: skip
RECIPE_KEYS = ("do", "what", "factor", "amount", "seconds", "start", "end", "to", "other", "weight", "at", "about", "x")
SUITE_KEYS = (
    "name", "reference", "output", "panel", "output_panel", "identity", "identity_panel", "openface_csv", "size", "step",
    "top", "columns", "layout", "note", "pack", "clip", "method", "reference_panel",
)  # fmt: skip


def toml_mutator(heads: tuple[str, ...], keys: tuple[str, ...], values: tuple[str, ...]) -> Mutate:
    """Mutations that mostly stay TOML: lines and values changed, moved, doubled and left out."""

    def change(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return several(data, others, rng)
        lines = data.decode("utf-8", "replace").split("\n")
        for _ in range(rng.randint(1, 4)):
            place, kind = rng.randrange(len(lines) or 1), rng.randrange(5)
            line = f"{rng.choice(keys)} = {rng.choice(values)}"
            if kind == 0:
                lines.insert(place, line)
            elif kind == 1 and lines:
                key, equals, _ = lines[place].partition("=")
                lines[place] = f"{key}= {rng.choice(values)}" if equals else line
            elif kind == 2:
                lines.insert(place, rng.choice(heads))
            elif kind == 3 and len(lines) > 1:
                del lines[place]
            else:
                lines.append(rng.choice(others).decode("utf-8", "replace"))
        mark = rng.choice([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"])
        text = "\n".join(lines)
        return mark + (text.encode("utf-16-le", "replace") if mark == b"\xff\xfe" else text.encode("utf-8", "replace"))

    return change


def recipe_target(folder: Path) -> Target:
    """Recipes, applied to a stream."""
    stream = make_stream(40)
    stream.save(folder / "second.mien")
    seeds = []
    for name in OPERATIONS:
        lines = ["[[edit]]", f'do = "{name}"', 'what = "yaw"', "factor = 1.5", "amount = 2", "seconds = 0.2", "start = 0.1",
                 "end = 0.5", "to = 0.7", 'other = "second.mien"']  # fmt: skip
        seeds.append((".toml", "\n".join(lines).encode()))
        seeds.append((".toml", "\n".join(lines[:4]).encode()))
    values = (*TOML_VALUES, *(f'"{name}"' for name in OPERATIONS), '"second.mien"')
    mutate = toml_mutator(("[[edit]]", "[edit]", "[x]"), RECIPE_KEYS, values)

    def use(path: Path) -> None:
        changed = edit(stream, read_recipe(path))
        assert np.isfinite(changed.frames).all(), "numbers that are not finite"

    return Target(seeds, mutate, use)


SUITE = """name = "a"
columns = ["psnr"]
layout = "metrics"
size = 64
[[clip]]
name = "c"
reference = "c.mp4"
panel = "0/2"
[[method]]
name = "m"
output = "{name}.mp4"
panel = "left"
"""


def suite_target(folder: Path) -> Target:
    """Suites of `mien evaluate`."""
    mutate = toml_mutator(("[[clip]]", "[[method]]", "[clip]", "[x]"), SUITE_KEYS,
                          (*TOML_VALUES, '"{name}{x}"', '"{reference.a}"', '"{name:>999999999}"', '"{"', '["psnr"]'))  # fmt: skip
    return Target([(".toml", SUITE.encode())], mutate, read_suite)


def person_target(folder: Path) -> Target:
    """Persons, and their weights put into a generator."""
    pack = tiny_pack()
    weights = weights_for(pack.generator, None, b"")
    weights.materialize()
    _, delta = weights.export()
    whole = Person("ann", pack.fingerprint, pack.name, 64, np.zeros((pack.generator.num_ws, 32)), delta)
    compact = weights_for(pack.generator, 20_000, b"")
    compact.materialize()
    small = replace(whole, tuning=compact.export()[1], frames=np.zeros((2, 35), np.float16))
    seeds = [(".person", person.to_bytes()) for person in (whole, small)]

    def use(path: Path) -> None:
        apply_delta(pack.generator, Person.load(path).tuning)

    return Target(seeds, mutate_stream, use)


def mutate_pack(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Changes of bytes, mostly in the head, whose length is made right again half of the time."""
    length = struct.unpack_from("<Q", data)[0]
    head, body = data[8 : 8 + length], data[8 + length :]
    kind = rng.random()
    if kind < 0.1:
        return several(data, others, rng)
    if kind < 0.4:
        head = several(head, [head], rng)
        return struct.pack("<Q", len(head)) + head + body
    parsed = json.loads(head)
    own = json.loads(parsed["__metadata__"]["mien"])
    where = own if rng.random() < 0.8 else parsed
    for _ in range(rng.randint(1, 3)):
        change_json(where, rng)
    parsed["__metadata__"] = {"mien": json.dumps(own)} if isinstance(parsed.get("__metadata__"), dict) else {}
    head = json.dumps(parsed).encode()
    return struct.pack("<Q", len(head)) + head + body


JSON_VALUES: tuple[Any, ...] = (
    0, -1, 1, 2, 7, 64, 1 << 20, 1 << 40, 1.5, float("nan"), True, None, "", "mini", "stylegan2", [], [1], {}, {"a": 1},
)  # fmt: skip


def change_json(value: Any, rng: random.Random) -> None:
    """Change one entry somewhere within."""
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.8:
            value = value[key]
            continue
        if rng.random() < 0.3:
            del value[key]
        else:
            value[key] = copy.deepcopy(rng.choice(JSON_VALUES))
        return


def pack_target(folder: Path) -> Target:
    """Packs, and one picture of their generator."""
    tiny_pack().save(folder / "seed.safetensors")

    def use(path: Path) -> None:
        pack = Pack.load(path)
        if "generator" in pack.networks and pack.generator.resolution <= 64:
            with torch.no_grad():
                pack.generator.synthesis(torch.zeros(1, pack.generator.num_ws, pack.generator.w_dim))

    return Target([(".safetensors", (folder / "seed.safetensors").read_bytes())], mutate_pack, use)


def read_clip(path: Path) -> None:
    """The first frames and the sound of a clip."""
    clip = read_video(path)
    for _ in islice(iter(clip), 12):
        pass
    extract_audio(path)


def upload_target(folder: Path) -> Target:
    """What the studio does with an upload of each kind."""
    pack = tiny_pack()
    streams = [replace(make_stream(20), pack=pack.fingerprint, pack_name=pack.name).to_bytes(), *stream_seeds()]
    seeds = [(".mien", data) for data in streams]
    seeds += [(s, d) for s, d in [*video_seeds(folder), *image_seeds(folder)] if s in KINDS]

    def use(path: Path) -> None:
        check_kind(path)
        if path.suffix in IMAGES:
            checked_image(path)
        elif path.suffix in CLIPS:
            for _ in islice(iter(checked_clip(path, 0.0, 0.2)), 6):
                pass
        else:
            checked_stream(path, pack)

    def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
        if data.startswith(b"\x89MIEN"):
            return mutate_stream(data, streams, rng)
        return mutate_image(data, others, rng)

    return Target(seeds, mutate, use)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "image": lambda folder: Target(image_seeds(folder), mutate_image, read_image),
    "video": lambda folder: Target(video_seeds(folder), several, read_clip),
    "recipe": recipe_target,
    "person": person_target,
    "pack": pack_target,
    "suite": suite_target,
    "upload": upload_target,
}


def answer(target: Target, path: Path) -> str:
    """ "" where reading gave something or one sentence of mien's own, else what went wrong."""
    begun = time.process_time()
    try:
        target.use(path)
    except MienError as error:
        if "\n" in str(error) or not str(error):
            return f"not a sentence: {error!r}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
        return f"{type(error).__name__} at {where}: {str(error)[:200]}"
    seconds = time.process_time() - begun
    return f"took {seconds:.1f} s of processor time" if seconds > CPU_SECONDS else ""


def work(name: str, folder: Path, more: list[Path], seed: int, pipe: Connection) -> None:
    """Mutate and read until killed; for each file the pipe gets its name, and what came of it."""
    warnings.simplefilter("ignore")
    target = TARGETS[name](folder)
    seeds = target.seeds + [(path.suffix.lower(), path.read_bytes()) for path in more]
    base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, base + MEMORY))
    rng, number = random.Random(seed), 0
    while True:
        suffix, data = rng.choice(seeds)
        others = [d for s, d in seeds if s == suffix]
        path = folder / f"{number % 2}{suffix}"
        path.write_bytes(target.mutate(data, others, rng))
        pipe.send(("begin", str(path), 0.0))
        begun = time.process_time()
        wrong = answer(target, path)
        pipe.send(("end", wrong, time.process_time() - begun))
        number += 1


def fuzz(name: str, seconds: float, seed: int, keep: Path, more: list[Path]) -> int:
    """Fuzz one reader for so long; returns the number of findings."""
    end, tried, found, slowest, runs = time.monotonic() + seconds, 0, 0, 0.0, 0
    kinds: set[str] = set()
    context = multiprocessing.get_context("fork")
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = context.Pipe(duplex=False)
            worker = context.Process(target=work, args=(name, Path(folder), more, seed + runs, theirs), daemon=True)
            worker.start()
            theirs.close()
            runs += 1
            path = ""
            while time.monotonic() < end:
                try:
                    answered = ours.poll(CLOCK_SECONDS) or ours.poll(CLOCK_SECONDS)
                    kind, text, taken = ours.recv() if answered else ("end", "no answer in two minutes", CPU_SECONDS)
                except EOFError:
                    worker.join()
                    kind, text, taken = "gone", f"the process ended with {worker.exitcode}", 0.0
                if kind == "begin":
                    path = text
                    continue
                tried, slowest = tried + 1, max(slowest, taken)
                if text:
                    found += 1
                    if text not in kinds and path:
                        kinds.add(text)
                        keep.mkdir(parents=True, exist_ok=True)
                        kept = keep / f"{name}-{len(kinds)}{Path(path).suffix}"
                        shutil.copy(path, kept)
                        print(f"{kept}: {text}", flush=True)
                if kind == "gone" or text.startswith("no answer"):
                    break
            worker.kill()
            worker.join()
    print(f"{name}: {tried:,} files in {seconds:.0f} s, {found} findings of {len(kinds)} kinds, slowest {slowest:.1f} s of processor time",
          flush=True)  # fmt: skip
    return found


def main() -> int:
    """Runs the fuzzers one after another; 1 when there was a finding."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("targets", nargs="+", choices=list(TARGETS))
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--seeds", type=Path, nargs="*", default=[], help="more files to begin from")
    options.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    given = options.parse_args()
    found = [fuzz(name, given.seconds, given.seed, given.keep, given.seeds) for name in given.targets]
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())
