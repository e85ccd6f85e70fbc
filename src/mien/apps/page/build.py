"""Build the page's folder: the decoder, the packs, the streams with the persons that they name, and what the page says
of them (`page.json`)."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mien._version import __version__
from mien.apps.page.page_pack import channel_facts, check_playable, write_page_pack
from mien.apps.provenance import Origin, file_hash
from mien.editing.curves import curves_of, principal_motion
from mien.errors import InputError, OutputError
from mien.format.person import Person, find_person
from mien.format.stream import Stream
from mien.media import watermark
from mien.media.video import VIDEO_SUFFIXES
from mien.packs.pack import Pack
from mien.packs.resolve import pack_for, tuned_generator
from mien.runtime.files import check_output_folder

FACTS = "page.json"
MAKER = "mien page"
PARTS = ("packs", "streams", "persons")  # folders of a page
DEVELOPMENT = ("package.json",)  # of the decoder's folder: for node, not for a browser
BENDS = ("mouth", "jaw", "eyes", "brows")
MOST_PEOPLE = 48
GAIN = {"flat": watermark.GAIN_FLAT, "slope": watermark.GAIN_SLOPE, "most": watermark.GAIN_MOST}


@dataclass(frozen=True)
class PageOptions:
    """What a page shows. `people`: how many faces of each pack can be chosen; `title`: the page's heading."""

    people: int = 6
    title: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.people <= MOST_PEOPLE:
            raise InputError(f"a page offers 0 to {MOST_PEOPLE} people of a pack, not {self.people}.")


@dataclass(frozen=True)
class Entry:
    """One stream of a page, with everything that was found for it. `clip`: the video that it was encoded from."""

    path: Path
    stream: Stream
    pack: Pack
    person: Person | None
    clip: Path | None


def read_entry(path: Path, person: Path | None, clip: Path | None = None) -> Entry:
    """Read a stream, its pack and its person, all checked.

    `clip`: the video to compare bytes with; where it is not given, a video of the same name beside the stream.

    Raises StreamError, PackError, InputError.
    """
    stream = Stream.load(path)
    pack = pack_for(stream, None)
    check_playable(pack)
    found = find_person(stream, person if person is not None else path.parent)
    tuned_generator(stream, pack, found)  # weights that do not fit are found here, not in the browser
    if clip is not None and not clip.is_file():
        raise InputError(f"there is no clip {clip}.")
    beside = (path.with_suffix(suffix) for suffix in VIDEO_SUFFIXES)
    return Entry(path, stream, pack, found, clip or next((p for p in beside if p.is_file()), None))


def check_folder(folder: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Check that a page may be written there: a new or an empty folder, or one that holds a page, of which no part that is
    replaced holds one of the `inputs`.

    Raises OutputError.
    """
    check_output_folder(folder)
    beside = folder.resolve().parent
    if not os.access(beside, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {beside}, where the page is put together, cannot be written to.")
    if folder.is_dir() and any(folder.iterdir()) and not _is_page(folder):
        raise OutputError(f"the output folder {folder} holds other things than a page; name a new one.")
    for read in inputs:
        if read is not None and any(
            Path(os.path.realpath(read)).is_relative_to(folder.resolve() / part) for part in PARTS
        ):
            raise OutputError(f"the input {read} lies in the page in {folder}, which is replaced: name another folder.")


def build_page(entries: Sequence[Entry], folder: Path, options: PageOptions | None = None) -> int:
    """Make the page beside the folder, then put it there. Of a page that was there before, what a page consists of is
    replaced, and what else lies in the folder stays. Returns its size in bytes.

    Raises OutputError as `check_folder`.
    """
    check_folder(folder, [entry.path for entry in entries])
    folder = folder.resolve()
    options = options or PageOptions()
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write(entries, temporary, options)
        size = sum(p.stat().st_size for p in temporary.rglob("*") if p.is_file())
        folder.mkdir(exist_ok=True)
        for part in temporary.iterdir():
            old = folder / part.name
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            part.replace(old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size


def _write(entries: Sequence[Entry], folder: Path, options: PageOptions) -> None:
    for part in PARTS:
        (folder / part).mkdir(parents=True, exist_ok=True)
    for file in resources.files("mien.apps.page").joinpath("web").iterdir():
        if file.is_file() and file.name not in DEVELOPMENT:
            (folder / file.name).write_bytes(file.read_bytes())
    packs: dict[str, dict[str, Any]] = {}
    persons: dict[str, str] = {}
    streams = []
    for number, entry in enumerate(entries, start=1):
        key = entry.pack.fingerprint
        if key not in packs:
            name = f"packs/{_plain(entry.pack.name)}-{key[:8]}.safetensors"
            write_page_pack(entry.pack, options.people, folder / name)
            packs[key] = {
                "file": name, "name": entry.pack.name, "channels": channel_facts(entry.pack),
                "absolute": entry.pack.channels_absolute,
            }  # fmt: skip
        if entry.person is not None and entry.person.fingerprint not in persons:
            persons[entry.person.fingerprint] = f"persons/{entry.person.fingerprint[:12]}.person"
            (folder / persons[entry.person.fingerprint]).write_bytes(entry.person.to_bytes())
        name = f"streams/{number:02d}-{_plain(entry.path.stem)}.mien"
        (folder / name).write_bytes(entry.path.read_bytes())
        mark = f"{name.removesuffix('.mien')}.mark"
        (folder / mark).write_bytes(_mark(entry))
        streams.append(_facts(entry, name, mark))
    facts = {
        "maker": MAKER, "version": __version__, "title": options.title or entries[0].path.stem, "streams": streams,
        "packs": packs, "persons": persons, "watermark": GAIN,
    }  # fmt: skip
    (folder / FACTS).write_text(json.dumps(facts, indent=1))


def _mark(entry: Entry) -> bytes:
    """One period of the field of the stream's invisible mark, little-endian halves [side, side], `side` being that of a
    tile in pixels."""
    size = entry.pack.generator.resolution
    side = size // watermark.TILES_TO_SIDE
    return watermark.Watermark(file_hash(entry.stream), size, size).field[:side, :side].astype("<f2").tobytes()


def _facts(entry: Entry, name: str, mark: str) -> dict[str, Any]:
    clip = None if entry.clip is None else {"name": entry.clip.name, "bytes": entry.clip.stat().st_size}
    return {
        "file": name, "mark": mark, "name": entry.path.stem, "pack": entry.stream.pack, "clip": clip,
        "sentence": Origin(entry.stream).sentence(), "bends": _bends(entry),
    }  # fmt: skip


def _bends(entry: Entry) -> dict[str, list[float]]:
    """For each attribute that moves, one standard deviation of its own motion in this stream, `[32]`."""
    curves = curves_of(entry.stream, entry.pack)
    numbers = np.asarray(entry.stream.frames, np.float32)
    found: dict[str, list[float]] = {}
    for name in BENDS:
        members = curves.groups.get(name, [])
        if not members:
            continue
        motion = principal_motion(numbers[:, members], curves.scales[members])
        if motion.any():
            row = np.zeros(numbers.shape[1], np.float32)
            row[members] = motion
            found[name] = [round(float(x), 5) for x in row[3:]]
    return found


def _is_page(folder: Path) -> bool:
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and facts.get("maker") == MAKER


def _plain(name: str) -> str:
    """A file's name that any host serves as it is."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "stream"
